use std::any::Any;

mod pace;

struct Count(u64);

fn main() {
    let mut kept: Box<dyn Any> = Box::new(Count(0));
    while pace::tick() {
        tell(kept.as_mut());
    }
}

fn tell(kept: &mut dyn Any) {
    match kept.downcast_mut::<Count>() {
        Some(count) => count.0 += 1,
        None => println!("CORRUPT the count is of another type now"),
    }
    let count = kept.downcast_ref::<Count>().map_or(0, |count| count.0);
    println!("count={count} {} {}", outer::word(), more::number());
}
