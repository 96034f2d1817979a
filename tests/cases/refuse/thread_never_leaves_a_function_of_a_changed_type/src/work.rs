use std::sync::atomic::{AtomicU64, Ordering};

static SUM: AtomicU64 = AtomicU64::new(0);

struct Gauge {
    low: u64,
    high: u64,
}

fn read(gauge: &Gauge) -> u64 {
    gauge.high - gauge.low
}

pub fn worker() {
    let gauge = Gauge { low: 5, high: 12 };
    loop {
        SUM.store(read(&gauge), Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

pub fn shared() -> String {
    match SUM.load(Ordering::Relaxed) {
        0 | 7 => "v=1".to_owned(),
        _ => "CORRUPT".to_owned(),
    }
}
