//! What a reader of a format found, as the bytes of an index. The layout is in [`layout`](super::layout).
//!
//! Sorting and hashing are done by several threads, each of which has its own part of the image to write to.

use rayon::iter::{
    IndexedParallelIterator, IntoParallelRefIterator, ParallelBridge, ParallelIterator,
};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::facts::{Access, Entry, Found, Group, Segment};
use super::layout::{Counts, HEADER, Header, Layout, SEGMENT, bucket};
use crate::binary::object::ObjectError;

/// Symbols per bucket, on average.
const PER_BUCKET: usize = 2;

/// Symbols that one thread writes at a time.
const BATCH: usize = 8192;

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
    let entry = |place: &u32| symbols.get(*place as usize).copied().unwrap_or(Entry::GONE);
    column(&order, parts.next(order.len() * 8), |place| entry(place).addr.to_le_bytes());
    column(&order, parts.next(order.len() * 8), |place| entry(place).size.to_le_bytes());
    column(&order, parts.next(order.len() * 4), |place| entry(place).name.to_le_bytes());
    column(&order, parts.next(order.len() * 4), |place| entry(place).tag.0.to_le_bytes());
    column(&units, parts.next(units.len() * 4), |name| name.to_le_bytes());
    column(&imports, parts.next(imports.len() * 4), |name| name.to_le_bytes());
    let hashes: Vec<u32> = order.par_iter().with_min_len(BATCH).map(|place| entry(place).hash).collect();
    drop(symbols);
    drop(order);
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
    // Group, address and place in one number, which sorts faster than three.
    let key = |(place, entry): (usize, &Entry)| {
        let group = entry.tag.group();
        (group != Group::Gone).then(|| (group as u128) << 96 | u128::from(entry.addr) << 32 | place as u128)
    };
    let mut keys: Vec<u128> = symbols.par_iter().enumerate().filter_map(key).collect();
    keys.par_sort_unstable();
    let below = |group: Group| keys.partition_point(|key| key >> 96 < group as u128);
    let (data, thread_locals) = (below(Group::Data), below(Group::ThreadLocals));
    let counts = [data, thread_locals - data, keys.len() - thread_locals];
    Ok((keys.par_iter().map(|key| *key as u32).collect(), counts))
}

fn column<T: Sync, const N: usize>(values: &[T], part: &mut [u8], bytes: impl Fn(&T) -> [u8; N] + Sync) {
    let places = part.par_chunks_mut(BATCH * N).zip(values.par_chunks(BATCH));
    places.for_each(|(places, values)| {
        for (place, value) in places.as_chunks_mut::<N>().0.iter_mut().zip(values) {
            *place = bytes(value);
        }
    });
}

fn write_segments(segments: &[Segment], part: &mut [u8]) {
    for (place, segment) in part.chunks_exact_mut(SEGMENT).zip(segments) {
        let Segment { start, size, file_offset, file_size, access } = *segment;
        let words = [start.0, size, file_offset, file_size, access_bits(access)];
        for (place, word) in place.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
    }
}

pub(super) fn access_bits(access: Access) -> u64 {
    u64::from(access.read) | u64::from(access.write) << 1 | u64::from(access.execute) << 2
}

/// Fills the table from hashes to symbols. Each thread has a range of the buckets, and looks at all symbols for those
/// that belong there: looking is cheap, and so no two write to one place.
fn write_buckets(hashes: &[u32], buckets: u32, heads: &mut [u8], items: &mut [u8]) {
    let threads = rayon::current_num_threads().clamp(1, 16);
    let width = (buckets as usize).div_ceil(threads).max(1);
    let ranges: Vec<_> = (0..buckets as usize).step_by(width).map(|low| low..(low + width).min(buckets as usize)).collect();
    let sizes: Vec<usize> = ranges
        .par_iter()
        .map(|range| hashes.iter().filter(|hash| range.contains(&bucket(**hash, buckets))).count())
        .collect();
    let (mut heads, mut items) = (Parts { rest: heads }, Parts { rest: items });
    let mut first = 0;
    let mut work = Vec::new();
    for (range, size) in ranges.into_iter().zip(sizes) {
        work.push((range.clone(), first, heads.next(range.len() * 4), items.next(size * 4)));
        first += size;
    }
    work.into_iter().par_bridge().for_each(|(range, first, heads, items)| {
        let mut ends = vec![0_u32; range.len() + 1];
        let in_range = |hash: &u32| Some(bucket(*hash, buckets)).filter(|at| range.contains(at)).map(|at| at - range.start);
        for at in hashes.iter().filter_map(in_range) {
            ends[at + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        for (place, end) in heads.as_chunks_mut::<4>().0.iter_mut().zip(&ends) {
            *place = (first as u32 + end).to_le_bytes();
        }
        let items = items.as_chunks_mut::<4>().0;
        for (symbol, hash) in hashes.iter().enumerate() {
            let Some(at) = in_range(hash) else { continue };
            if let Some(item) = items.get_mut(ends[at] as usize) {
                *item = (symbol as u32).to_le_bytes();
            }
            ends[at] += 1;
        }
    });
    let last = heads.next(4);
    last.copy_from_slice(&(hashes.len() as u32).to_le_bytes());
}
