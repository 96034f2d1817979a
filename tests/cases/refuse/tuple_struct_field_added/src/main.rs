mod pace;
mod work;

fn main() {
    let bag = work::Bag::new();
    let mut count = 0;
    while pace::tick() {
        count += 1;
        println!("count={count} sum={}", bag.sum());
    }
}
