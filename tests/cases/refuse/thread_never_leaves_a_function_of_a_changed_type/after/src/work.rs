use std::sync::atomic::{AtomicU64, Ordering};

static SUM: AtomicU64 = AtomicU64::new(0);

struct Gauge {
    offset: u64,
    low: u64,
    high: u64,
}

fn read(gauge: &Gauge) -> u64 {
    gauge.high - gauge.low
}

pub fn worker() {
    let gauge = Gauge { offset: 0, low: 5, high: 12 };
    loop {
        SUM.store(read(&gauge), Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

pub fn shared() -> String {
    match SUM.load(Ordering::Relaxed) {
        0 | 7 => "v=2".to_owned(),
        _ => "CORRUPT".to_owned(),
    }
}
