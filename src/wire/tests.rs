use proptest::prelude::*;

use super::backend::{self, AuthenticationRequest, TransactionStatus};
use super::frame::Header;
use super::frontend::{self, Names};
use super::options::{self, OptionsError};
use super::startup::{self, Packet, ProtocolVersion, Refused};
use super::{Malformed, build};

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn a_header_below_four_or_above_a_gibibyte_is_malformed() {
    for (bytes, want) in [
        (&b"Q\x00\x00\x00\x04"[..], Ok(Some(0))),
        (b"Q\x00\x00\x00\x05x", Ok(Some(1))),
        (b"Q\x3f\xff\xff\xff", Ok(Some(0x3fff_fffb))),
        (b"Q\x00\x00", Ok(None)),
        (b"Q\x00\x00\x00\x03", Err(())),
        (b"Q\x00\x00\x00\x00", Err(())),
        (b"Q\x40\x00\x00\x00", Err(())),
        (b"Q\xff\xff\xff\xff", Err(())),
    ] {
        let got = Header::read(bytes).map(|h| h.map(|h| h.body_len)).map_err(|_| ());
        assert_eq!(got, want, "{bytes:x?}");
    }
}

#[test]
fn options_follow_postgresqls_own_rules() {
    for (text, want) in [
        ("", &[][..]),
        ("-c app.tenant=acme", &[("app.tenant", "acme")]),
        ("-capp.tenant=acme", &[("app.tenant", "acme")]),
        ("-c+app.tenant=acme", &[("app.tenant", "acme")]),
        ("--app.tenant=acme", &[("app.tenant", "acme")]),
        ("--statement-timeout=5s", &[("statement_timeout", "5s")]),
        ("-c app.tenant=tenant-corp", &[("app.tenant", "tenant-corp")]),
        ("  -c a.b=1\t-c  c=d=e ", &[("a.b", "1"), ("c", "d=e")]),
        (r"-c search_path=a,\ b", &[("search_path", "a, b")]),
        (r"-c a=\\x", &[("a", r"\x")]),
        ("-c a=", &[("a", "")]),
    ] {
        assert_eq!(options::parse(text.as_bytes()), Ok(pairs(want)), "{text}");
    }
}

#[test]
fn options_that_set_nothing_are_refused() {
    let word = |w: &str| w.to_owned();
    for (text, want) in [
        ("-B 100", OptionsError::Switch { word: word("-B") }),
        ("acme", OptionsError::Switch { word: word("acme") }),
        ("-c", OptionsError::NoValue { word: word("-c") }),
        ("-c x", OptionsError::NoValue { word: word("x") }),
        ("--x", OptionsError::NoValue { word: word("x") }),
        ("--=v", OptionsError::NoValue { word: word("=v") }),
    ] {
        assert_eq!(options::parse(text.as_bytes()), Err(want), "{text}");
    }
    assert_eq!(options::parse(b"-c a=\xff"), Err(OptionsError::Encoding));
}

fn packet_of(code: i32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = i32::try_from(rest.len() + 8).unwrap().to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn packets_before_authentication_are_read_strictly() {
    let v3 = ProtocolVersion::V3_0;
    assert_eq!(startup::packet(build::SSL_REQUEST), Ok(Packet::Ssl));
    assert_eq!(startup::packet(&packet_of(80_877_104, b"")), Ok(Packet::GssEnc));
    let parameters = vec![("user", &b"app"[..]), ("database", b"saas")];
    assert_eq!(
        startup::packet(&packet_of(v3.number(), b"user\0app\0database\0saas\0\0")),
        Ok(Packet::Startup { version: v3, parameters })
    );
    assert_eq!(
        startup::packet(&packet_of(80_877_102, b"\0\0\0\x07key!")),
        Ok(Packet::Cancel { pid: 7, key: b"key!" })
    );
    for (code, rest, want) in [
        (80_877_103, &b"x"[..], Refused::Length),
        (80_877_102, b"\0\0\0\x07key", Refused::Length),
        (80_877_102, &[0; 261], Refused::Length),
        (0x0002_0000, b"", Refused::Version(ProtocolVersion { major: 2, minor: 0 })),
        (v3.number(), b"", Refused::Layout),
        (v3.number(), b"user\0app\0", Refused::Layout),
        (v3.number(), b"user\0app\0\0x", Refused::Layout),
        (v3.number(), b"user\0", Refused::Layout),
        (v3.number(), b"user", Refused::Layout),
        (v3.number(), b"\xff\0v\0\0", Refused::Layout),
    ] {
        assert_eq!(startup::packet(&packet_of(code, rest)), Err(want), "{code} {rest:?}");
    }
    for (len, want) in [(8, Ok(Some(8))), (10_000, Ok(Some(10_000)))] {
        assert_eq!(startup::packet_len(&i32::to_be_bytes(len)), want);
    }
    for len in [0, 4, 7, 10_001, -1, i32::MIN, i32::MAX] {
        assert_eq!(startup::packet_len(&i32::to_be_bytes(len)), Err(Refused::Length), "{len}");
    }
}

#[test]
fn bodies_that_are_not_exactly_their_shape_are_malformed() {
    assert_eq!(backend::ready_for_query(b"T"), Ok(TransactionStatus::InBlock));
    for body in [&b""[..], b"X", b"II"] {
        assert!(backend::ready_for_query(body).is_err());
    }
    assert_eq!(backend::parameter_status(b"a\0b\0"), Ok((&b"a"[..], &b"b"[..])));
    for body in [&b""[..], b"a\0b", b"a\0b\0c"] {
        assert!(backend::parameter_status(body).is_err());
    }
    let row = b"\0\x03\0\0\0\x01x\xff\xff\xff\xff\0\0\0\0";
    assert_eq!(backend::data_row(row), Ok(vec![Some(&b"x"[..]), None, Some(b"")]));
    for body in [&b""[..], b"\0\x01", b"\0\x01\0\0\0\x02x", b"\0\0x", b"\0\x01\xff\xff\xff\xfe"] {
        assert!(backend::data_row(body).is_err(), "{body:?}");
    }
    assert_eq!(frontend::password(b"x\0"), Ok(&b"x"[..]));
    assert!(frontend::password(b"x\0y").is_err());
    assert_eq!(frontend::sasl_initial(b"M\0\0\0\0\x01x"), Ok((&b"M"[..], Some(&b"x"[..]))));
    assert_eq!(frontend::sasl_initial(b"M\0\xff\xff\xff\xff"), Ok((&b"M"[..], None)));
    for body in [&b"M"[..], b"M\0\0\0\0\x02x", b"M\0\x7f\xff\xff\xffx", b"M\0\x80\0\0\0"] {
        assert!(frontend::sasl_initial(body).is_err(), "{body:?}");
    }
    let md5 = AuthenticationRequest::Md5 { salt: *b"salt" };
    assert_eq!(backend::authentication(b"\0\0\0\x05salt"), Ok(md5));
    for body in [&b""[..], b"\0\0\0", b"\0\0\0\0x", b"\0\0\0\x05sal"] {
        assert!(backend::authentication(body).is_err(), "{body:?}");
    }
}

#[test]
fn the_head_of_a_message_tells_whether_a_statement_is_named() {
    for (tag, head, want) in [
        (b'P', &b"\0select 1\0"[..], Some(Names::Unnamed)),
        (b'P', b"s1\0", Some(Names::Statement)),
        (b'P', b"", None),
        (b'B', b"\0\0", Some(Names::Unnamed)),
        (b'B', b"portal\0s", Some(Names::Statement)),
        (b'B', b"portal", None),
        (b'B', b"portal\0", None),
        (b'C', b"S\0", Some(Names::Unnamed)),
        (b'C', b"Ss1\0", Some(Names::Statement)),
        (b'D', b"Ss1\0", Some(Names::Statement)),
        (b'D', b"S\0", Some(Names::Unnamed)),
        (b'D', b"Ps1\0", Some(Names::Other)),
        (b'C', b"P\0", Some(Names::Other)),
        (b'C', b"S", None),
        (b'E', b"", Some(Names::Other)),
    ] {
        assert_eq!(frontend::statement_named(tag, head), want, "{tag} {head:?}");
    }
}

#[test]
fn an_error_is_read_as_far_as_it_can_be() {
    let error = backend::ServerError::read(b"SERROR\0C42P01\0Mno\0\0");
    assert_eq!((error.sqlstate(), error.message()), ("42P01", "no"));
    assert_eq!(backend::ServerError::read(b"SERROR").sqlstate(), "");
}

#[test]
fn what_the_builders_write_the_views_read_back() {
    let mut out = bytes::BytesMut::new();
    build::unnamed_statement("COMMIT", &mut out);
    build::close_unnamed_statement(&mut out);
    build::query("select 1", &mut out);
    let mut tags = Vec::new();
    let mut rest = &out[..];
    while let Some(header) = Header::read(rest).unwrap() {
        tags.push(header.tag);
        rest = &rest[header.frame_len()..];
    }
    assert_eq!((tags.as_slice(), rest), (&b"PBECQ"[..], &b""[..]));
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Header::read(&bytes);
        let _ = startup::packet_len(&bytes);
        let _ = startup::packet(&bytes);
        let _ = options::parse(&bytes);
        let _ = frontend::password(&bytes);
        let _ = frontend::sasl_initial(&bytes);
        let _ = backend::authentication(&bytes);
        let _ = backend::backend_key_data(&bytes);
        let _ = backend::parameter_status(&bytes);
        let _ = backend::data_row(&bytes);
        let _ = backend::ServerError::read(&bytes);
        for tag in *b"PBDE" {
            let _ = frontend::statement_named(tag, &bytes);
        }
        let _: Result<_, Malformed> = backend::ready_for_query(&bytes);
    }

    #[test]
    fn a_backslash_protects_any_value_in_options(value in "[ -~]{0,40}") {
        let escaped: String =
            value.chars().flat_map(|c| ['\\', c]).collect();
        let text = format!("-c a.b={escaped} -c c=d");
        prop_assert_eq!(options::parse(text.as_bytes()), Ok(pairs(&[("a.b", &value), ("c", "d")])));
    }
}
