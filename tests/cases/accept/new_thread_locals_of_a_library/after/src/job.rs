use std::sync::mpsc;
use std::thread;

pub fn step() -> String {
    let before = store::last();
    let text = store::note();
    // Two threads that wait for each other: the standard library keeps a thread-local for that.
    let (tell, told) = mpsc::sync_channel(0);
    let sender = thread::spawn(move || tell.send(before));
    let heard = told.recv().expect("a value");
    sender.join().expect("a thread").expect("a receiver");
    format!("{text} {}", if store::last() == before + 1 && heard == before { "same" } else { "MIXED" })
}
