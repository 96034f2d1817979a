pub struct Mark {
    middle: u64,
    left: u32,
    right: u32,
}

fn pack(mark: Mark) -> [u8; 16] {
    unsafe { std::mem::transmute(mark) }
}

fn left(bytes: &[u8]) -> u32 {
    let mark: &Mark = unsafe { &*bytes.as_ptr().cast() };
    mark.left
}

pub struct State {
    kept: Box<[u8]>,
}

impl State {
    pub fn new() -> State {
        let kept = Box::new(pack(Mark { middle: 5, left: 77, right: 88 }));
        State { kept }
    }

    pub fn line(&mut self, _: u64) -> String {
        if left(&self.kept) != 77 {
            return "CORRUPT".to_owned();
        }
        "v=2".to_owned()
    }
}
