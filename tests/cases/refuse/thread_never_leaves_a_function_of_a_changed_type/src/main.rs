mod pace;
mod work;

fn main() {
    std::thread::spawn(work::worker);
    let mut count = 0;
    while pace::tick() {
        count += 1;
        println!("count={count} {}", work::shared());
    }
}
