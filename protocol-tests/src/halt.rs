//! A thread of another process that stands still: what a worker that runs for ever looks like from outside.

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::thread;

use nix::sys::ptrace::{Options, interrupt, seize};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Stops the thread with that name until its process ends. The process must be a child of this one.
///
/// # Panics
/// Where there is no such thread, or the system does not allow it.
pub fn halt_thread(process: u32, name: &str) {
    let tid = Pid::from_raw(thread_of(process, name));
    let (tell, told) = sync_channel(1);
    // Whoever has stopped a thread has to be there as long as it stands still.
    thread::spawn(move || {
        seize(tid, Options::empty()).expect("a child may be traced");
        interrupt(tid).expect("it was seized");
        waitpid(tid, Some(WaitPidFlag::__WALL)).expect("it stops");
        tell.send(()).unwrap();
        // Its end, which nobody else may wait for.
        let _ = waitpid(tid, Some(WaitPidFlag::__WALL));
    });
    told.recv().expect("the thread was stopped");
}

fn thread_of(process: u32, name: &str) -> i32 {
    let all = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = |path: &PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let path = all.map(|entry| entry.unwrap().path()).find(named).expect("a thread of that name");
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}
