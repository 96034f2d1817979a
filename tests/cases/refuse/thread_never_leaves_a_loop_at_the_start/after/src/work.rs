/// Its first instruction jumps to itself.
pub fn wait() {
    loop {
        std::thread::park();
    }
}

pub fn text() -> &'static str {
    "by=after"
}
