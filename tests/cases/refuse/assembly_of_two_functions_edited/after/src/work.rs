std::arch::global_asm!(
    ".globl forty_and_some",
    "forty_and_some:",
    "mov eax, 42",
    "jmp past_it",
    ".globl past_it",
    "past_it:",
    "ret",
);

unsafe extern "C" {
    safe fn forty_and_some() -> u32;
}

pub fn line(count: u64) {
    println!("count={count} some={}", forty_and_some());
}
