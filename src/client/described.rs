//! What a client was told that a statement returns, and what it returns on the server that is to run it.
//!
//! A driver that describes a statement once decodes all its later rows by that. PostgreSQL fails a prepared statement
//! whose result has changed (`cached plan must not change result type`), and the driver prepares anew. Here a server
//! may have parsed the same text later than the client was told of it, so before a statement is bound on a server it
//! is made sure that it returns there what the client was told; if not, the client gets PostgreSQL's own error. That
//! costs a round trip once for each statement and server. Where the client asks for the description in the same
//! batch, it learns of the change by itself.

use bytes::{BufMut, BytesMut};

use super::session::Session;
use super::statements::OwnName;
use crate::flow::Reply;
use crate::prepared::{Description, Key, Op};
use crate::wire::backend::tag as reply;
use crate::wire::build::{self, FLUSH};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag;
use crate::wire::split_cstr;

/// Whose description is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LooksAt {
    /// A named statement's.
    Named(Key),
    /// The unnamed one's.
    Unnamed,
}

/// What is to be done with a `Bind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It may go.
    Go,
    /// What its statement returns is not known yet.
    Wait,
    /// It returns something else than the client was told.
    Changed,
}

impl Session {
    /// Whether a `Bind` of that statement may go; `next`: the type of the message behind it.
    pub(super) fn look(&mut self, name: &[u8], next: Option<u8>) -> Look {
        let Some(names) = self.names.as_ref() else { return Look::Go };
        let Some(told) = names.told(name) else { return Look::Go };
        if next == Some(tag::DESCRIBE) || self.describes.as_deref() == Some(name) {
            return Look::Go;
        }
        let told = told.clone();
        // PostgreSQL may still find that out itself: then the unit is not run again.
        self.link.must_not_change = true;
        if name.is_empty() {
            return self.look_at_unnamed(&told);
        }
        let Some(statement) = self.named(name) else { return Look::Go };
        let key = self.key(&statement);
        let Some(linked) = &mut self.link.linked else { return Look::Go };
        match linked.server().held.description(key) {
            Some(known) => {
                let same = *known == told;
                self.link.looks_at = None;
                if same { Look::Go } else { Look::Changed }
            }
            None if self.link.looks_at == Some(LooksAt::Named(key)) => Look::Wait,
            None => {
                self.rewrite_what_is_before();
                let own = self.provide(&statement);
                self.ask_for_description(&own, Some(key));
                Look::Wait
            }
        }
    }

    /// The unnamed statement, which the server has from before or gets once more.
    fn look_at_unnamed(&mut self, told: &Description) -> Look {
        if self.link.looks_at == Some(LooksAt::Unnamed) {
            let Some(known) = self.unnamed_returns.take() else { return Look::Wait };
            self.link.looks_at = None;
            return if known == *told { Look::Go } else { Look::Changed };
        }
        if self.exchange.parsed_unnamed_statement() {
            return Look::Go;
        }
        self.rewrite_what_is_before();
        self.provide_unnamed();
        self.ask_for_description(&OwnName::UNNAMED, None);
        Look::Wait
    }

    fn ask_for_description(&mut self, own: &OwnName, key: Option<Key>) {
        self.link.looks_at = Some(key.map_or(LooksAt::Unnamed, LooksAt::Named));
        self.unnamed_returns = None;
        describe_statement(own.bytes(), &mut self.link.rewritten);
        self.owe(Reply::DescribedUnasked, Op::Described { name: None, of: 0, key });
        self.link.rewritten.extend_from_slice(FLUSH);
    }

    /// A unit ends.
    #[inline]
    pub(super) fn end_describes(&mut self) {
        if self.describes.is_some() || self.link.describes_portal_of.is_some() {
            (self.describes, self.link.describes_portal_of) = (None, None);
        }
    }

    /// The client asks what a statement returns: it is told in this unit.
    pub(super) fn note_describe(&mut self, name: &[u8], key: Option<Key>) {
        self.describes = Some(name.into());
        let of = self.names.get_or_insert_default().meaning(name);
        self.owe(Reply::Described, Op::Described { name: Some(name.into()), of, key });
    }

    /// The first portal of a statement that the client describes: what that returns, the statement does.
    pub(super) fn note_describe_of_portal(&mut self, frame: &[u8]) -> Option<usize> {
        let (name, key) = self.link.describes_portal_of.take()?;
        self.link.rewritten.extend_from_slice(frame);
        let of = self.names.get_or_insert_default().meaning(&name);
        self.owe(Reply::Described, Op::Described { name: Some(name), of, key });
        Some(frame.len())
    }

    /// It was answered; `count` bytes of the answer are there.
    pub(super) fn on_described(
        &mut self,
        count: usize,
        (name, of): (Option<&[u8]>, u64),
        key: Option<Key>,
    ) {
        let frame = &self.link.outbound.bytes()[self.link.passed..self.link.passed + count];
        let len = Header::read(frame).ok().flatten().map_or(0, Header::frame_len);
        let description = match frame.split_at_checked(HEADER_LEN) {
            Some((head, body)) if head[0] == reply::ROW_DESCRIPTION => {
                Description::of_rows(body, len)
            }
            _ => Description::no_data(),
        };
        match (key, &mut self.link.linked) {
            (Some(key), Some(linked)) => linked.server().held.describe(key, description.clone()),
            _ if name.is_none() => self.unnamed_returns = Some(description.clone()),
            _ => {}
        }
        if let (Some(name), Some(names)) = (name, &mut self.names) {
            names.tell(name, of, description);
        }
    }

    /// The statement returns something else: the client hears what PostgreSQL says of such a one.
    pub(super) fn refuse_changed(&mut self) {
        let mut told = BytesMut::new();
        let field = |code: u8, text: &str| (code, text.to_owned());
        let fields = vec![
            field(b'S', "ERROR"),
            field(b'V', "ERROR"),
            field(b'C', "0A000"),
            field(b'M', "cached plan must not change result type"),
            // Some drivers know the error by this.
            field(b'R', "RevalidateCachedQuery"),
        ];
        build::error_response(fields, &mut told);
        build::failing_parse(&mut self.link.rewritten);
        self.owe(Reply::Refused, Op::Refused(told.freeze()));
    }
}

/// The statement's name in a `Bind`, if it is there.
pub(super) fn statement_of(frame: &[u8]) -> Option<&[u8]> {
    let (_, behind) = split_cstr(frame.get(HEADER_LEN..)?)?;
    split_cstr(behind).map(|(name, _)| name)
}

pub(super) fn describe_statement(name: &[u8], out: &mut BytesMut) {
    out.put_u8(tag::DESCRIBE);
    out.put_u32(u32::try_from(4 + 1 + name.len() + 1).expect("a name is short"));
    out.put_u8(b'S');
    out.put_slice(name);
    out.put_u8(0);
}
