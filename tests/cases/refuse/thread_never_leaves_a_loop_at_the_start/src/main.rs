mod pace;
mod work;

fn main() {
    std::thread::Builder::new().name("waiter".into()).spawn(|| work::wait()).expect("a thread");
    let mut count = 0;
    while pace::tick() {
        count += 1;
        println!("count={count} {}", work::text());
    }
}
