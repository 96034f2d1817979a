//! What a reader of a format found, as the bytes of an index. The layout is in [`layout`](super::layout).
//!
//! Sorting and hashing are done by several threads, each of which has its own part of the image to write to.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::facts::{Access, Entry, Found, Group, Segment};
use super::layout::{Counts, HEADER, Header, Layout, SEGMENT, bucket};
use super::several::{self, BATCH};
use crate::binary::object::ObjectError;

/// Symbols per bucket, on average.
const PER_BUCKET: usize = 2;

/// The image of an index.
///
/// # Errors
/// If there is more of something than an index can hold.
pub(super) fn image(found: Found) -> Result<Vec<u8>, ObjectError> {
    let Found { about, segments, symbols, units, imports } = found;
    let (order, [functions, data, thread_locals]) = order(&symbols)?;
    let count = |len: usize| u32::try_from(len).map_err(|_| ObjectError(format!("symbol table: {len} entries")));
    let counts = Counts {
        segments: count(segments.len())?,
        functions: count(functions)?,
        data: count(data)?,
        thread_locals: count(thread_locals)?,
        units: count(units.len())?,
        imports: count(imports.len())?,
        buckets: count(order.len() / PER_BUCKET)?.max(1),
    };
    let layout = Layout::of(&counts).ok_or_else(|| ObjectError("symbol table: it is larger than memory".into()))?;
    let mut image = vec![0; layout.total()];
    let (_, rest) = image.split_at_mut(HEADER);
    let mut parts = Parts { rest };
    write_segments(&segments, parts.next(segments.len() * SEGMENT));
    let hashes = write_symbols(symbols, order, &mut parts);
    for names in [&units, &imports] {
        put(parts.next(names.len() * 4), names.iter().map(|name| name.to_le_bytes()));
    }
    let (heads, items) = (parts.next(layout.heads.len()), parts.next(layout.items.len()));
    write_buckets(&hashes, counts.buckets, heads, items);
    Header { about, counts }.seal(&mut image);
    Ok(image)
}

/// Parts of the image, one after the other.
struct Parts<'a> {
    rest: &'a mut [u8],
}

impl<'a> Parts<'a> {
    fn next(&mut self, len: usize) -> &'a mut [u8] {
        let rest = std::mem::take(&mut self.rest);
        let (part, rest) = rest.split_at_mut(len.min(rest.len()));
        self.rest = rest;
        part
    }
}

/// The places of symbols: functions by address, data by address, thread-locals by offset; and how many each are. What is
/// at one address stays in the order of the file.
fn order(symbols: &[Entry]) -> Result<(Vec<u32>, [usize; 3]), ObjectError> {
    if u32::try_from(symbols.len()).is_err() {
        return Err(ObjectError(format!("symbol table: {} entries are more than an index holds", symbols.len())));
    }
    // Group, address and place in one number, which sorts faster than three; in a small one if addresses are small.
    let bits = usize::BITS - symbols.len().leading_zeros();
    let room = 62_u32.saturating_sub(bits);
    let is_wide = AtomicBool::new(false);
    let key = |(): &mut (), place: usize, entry: &Entry| {
        let group = entry.tag.group();
        if group != Group::Gone && entry.addr >> room != 0 {
            is_wide.store(true, Ordering::Relaxed);
        }
        let addr = if group == Group::Gone { 0 } else { entry.addr };
        (group as u64) << 62 | addr << bits | place as u64
    };
    let mut keys = several::map(symbols, || (), key);
    if !is_wide.load(Ordering::Relaxed) {
        let places = |key: &u64| (key & ((1 << bits) - 1)) as u32;
        return Ok(sorted(&mut keys, |group| (group as u64) << 62, places));
    }
    let key = |(): &mut (), place: usize, entry: &Entry| {
        (entry.tag.group() as u128) << 96 | u128::from(entry.addr) << 32 | place as u128
    };
    let mut keys = several::map(symbols, || (), key);
    Ok(sorted(&mut keys, |group| (group as u128) << 96, |key| *key as u32))
}

/// Sorts keys; gives the places in them, and how many each group has. `first` is not above any key of a group.
fn sorted<K: Ord + Send + Sync>(
    keys: &mut [K],
    first: impl Fn(Group) -> K,
    place: impl Fn(&K) -> u32 + Sync + Send,
) -> (Vec<u32>, [usize; 3]) {
    several::sort(keys);
    let below = |group: Group| keys.partition_point(|key| *key < first(group));
    let (data, thread_locals, gone) = (below(Group::Data), below(Group::ThreadLocals), below(Group::Gone));
    let places = several::map(&keys[..gone], || (), |(), _, key| place(key));
    (places, [data, thread_locals - data, gone - thread_locals])
}

/// Writes addresses, sizes, names and tags of the symbols in their order, and gives their hashes.
fn write_symbols(symbols: Vec<Entry>, order: Vec<u32>, parts: &mut Parts<'_>) -> Vec<u32> {
    let mut hashes = vec![0; order.len()];
    let mut column = |width: usize| parts.next(order.len() * width).chunks_mut(BATCH * width);
    let columns = column(8).zip(column(8)).zip(column(4).zip(column(4)));
    let rows: Vec<_> = order.chunks(BATCH).zip(hashes.chunks_mut(BATCH)).zip(columns).collect();
    // An entry is looked up once for all that is written of it: entries lie anywhere.
    several::each(rows, order.len(), |((order, hashes), ((addresses, sizes), (names, tags)))| {
        let mut row = Vec::with_capacity(order.len());
        row.extend(order.iter().map(|place| symbols.get(*place as usize).copied().unwrap_or(Entry::GONE)));
        put(addresses, row.iter().map(|entry| entry.addr.to_le_bytes()));
        put(sizes, row.iter().map(|entry| entry.size.to_le_bytes()));
        put(names, row.iter().map(|entry| entry.name.to_le_bytes()));
        put(tags, row.iter().map(|entry| entry.tag.0.to_le_bytes()));
        hashes.iter_mut().zip(&row).for_each(|(place, entry)| *place = entry.hash);
    });
    several::free(symbols);
    several::free(order);
    hashes
}

/// Fills a part with numbers, one after the other.
fn put<const N: usize>(part: &mut [u8], numbers: impl Iterator<Item = [u8; N]>) {
    part.as_chunks_mut::<N>().0.iter_mut().zip(numbers).for_each(|(place, number)| *place = number);
}

fn write_segments(segments: &[Segment], part: &mut [u8]) {
    for (place, segment) in part.chunks_exact_mut(SEGMENT).zip(segments) {
        let Segment { start, size, file_offset, file_size, access } = *segment;
        let words = [start.0, size, file_offset, file_size, access_bits(access)];
        put(place, words.into_iter().map(u64::to_le_bytes));
    }
}

pub(super) fn access_bits(access: Access) -> u64 {
    u64::from(access.read) | u64::from(access.write) << 1 | u64::from(access.execute) << 2
}

/// Fills the table from hashes to symbols. Each thread has a range of the buckets, and looks at all symbols for those
/// that belong there: looking is cheap, and so no two write to one place.
fn write_buckets(hashes: &[u32], buckets: u32, heads: &mut [u8], items: &mut [u8]) {
    let width = (buckets as usize).div_ceil(several::pieces(hashes.len())).max(1);
    let ranges: Vec<_> =
        (0..buckets as usize).step_by(width).map(|low| low..(low + width).min(buckets as usize)).collect();
    let sizes = several::each(ranges.clone(), hashes.len(), |range| {
        hashes.iter().filter(|hash| range.contains(&bucket(**hash, buckets))).count()
    });
    let (mut heads, mut items) = (Parts { rest: heads }, Parts { rest: items });
    let mut first = 0;
    let mut work = Vec::new();
    for (range, size) in ranges.into_iter().zip(sizes) {
        let (heads, items) = (heads.next(range.len() * 4), items.next(size * 4));
        work.push(BucketRange { range, buckets, first, heads, items });
        first += size as u32;
    }
    several::each(work, hashes.len(), |work| work.fill(hashes));
    heads.next(4).copy_from_slice(&first.to_le_bytes());
}

/// Some of the buckets, with their places in the image.
struct BucketRange<'a> {
    range: Range<usize>,
    buckets: u32,
    /// How many symbols are in the buckets before.
    first: u32,
    heads: &'a mut [u8],
    items: &'a mut [u8],
}

/// Buckets that are filled at a time, few enough for their places to stay in the processor's cache.
const BUCKETS: usize = 1 << 14;

impl BucketRange<'_> {
    fn fill(self, hashes: &[u32]) {
        let BucketRange { range, buckets, mut first, heads, mut items } = self;
        let mut rows: Vec<Vec<(u32, u32)>> = vec![Vec::new(); range.len().div_ceil(BUCKETS)];
        for (symbol, hash) in hashes.iter().enumerate() {
            let bucket = bucket(*hash, buckets);
            if range.contains(&bucket) {
                let at = bucket - range.start;
                rows[at / BUCKETS].push((symbol as u32, (at % BUCKETS) as u32));
            }
        }
        for (heads, row) in heads.chunks_mut(BUCKETS * 4).zip(rows) {
            let (mine, rest) = items.split_at_mut((row.len() * 4).min(items.len()));
            items = rest;
            fill_row(&row, first, heads, mine);
            first += row.len() as u32;
        }
    }
}

/// Fills neighbouring buckets with symbols, of which the row says which bucket each belongs to; `first` are before them.
fn fill_row(row: &[(u32, u32)], first: u32, heads: &mut [u8], items: &mut [u8]) {
    // Where the next symbol of each bucket goes: first the counts, shifted by one, then their sums.
    let mut next = vec![0_u32; heads.len() / 4 + 1];
    row.iter().for_each(|(_, at)| next[*at as usize + 1] += 1);
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    put(heads, next.iter().map(|start| (first + start).to_le_bytes()));
    let items = items.as_chunks_mut::<4>().0;
    for (symbol, at) in row {
        let place = &mut next[*at as usize];
        if let Some(item) = items.get_mut(*place as usize) {
            *item = symbol.to_le_bytes();
        }
        *place += 1;
    }
}
