unsafe extern "C" {
    safe fn no_such_function_anywhere() -> u64;
}

pub fn line(count: u64) {
    println!("count={count} text=fancy {}", if count == u64::MAX { no_such_function_anywhere() } else { 3 });
}
