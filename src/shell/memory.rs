//! How much memory the program has, as the system counts it.

use std::fs;

/// The memory that is ours right now, in bytes; `None` where the system does not tell.
pub(crate) fn resident_bytes() -> Option<u64> {
    let pages = resident_pages(&fs::read_to_string("/proc/self/statm").ok()?)?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The second number is that of the pages in memory.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_this_process() {
        assert_eq!(resident_pages("2345 678 90 1 0 2 0\n"), Some(678));
        assert_eq!(resident_pages("2345"), None);
        let mib = resident_bytes().unwrap() / 1024 / 1024;
        assert!((1..16_384).contains(&mib), "{mib} MiB");
    }
}
