use library_of_the_same_package_edited as library;

mod pace;

fn main() {
    let stored: fn(u64) -> u64 = library::rate;
    let mut total = 0;
    let mut count = 0;
    while pace::tick() {
        count += 1;
        let before = total;
        total += library::rate(count);
        if total <= before {
            println!("CORRUPT total went from {before} to {total}");
        }
        println!("count={count} rate={} stored={} total={total}", library::rate(0), stored(0));
    }
}
