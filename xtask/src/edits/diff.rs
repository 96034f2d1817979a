//! Two texts to the lines that differ between them, for people.

/// Lines of each text above which the part that differs is shown as one piece.
const MOST: usize = 1500;

/// The lines that went and came, each run of them under the number of its first line in the old text.
pub(crate) fn lines(path: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let most = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(old, new)| old == new).count();
    let part = |count: usize| head..count - tail;
    let (old, new) = (old.get(part(old.len())).unwrap_or_default(), new.get(part(new.len())).unwrap_or_default());
    let common = if old.len().max(new.len()) > MOST { Vec::new() } else { common(old, new) };
    let mut text = String::new();
    let (mut at_old, mut at_new) = (0, 0);
    for (next_old, next_new) in common.into_iter().chain([(old.len(), new.len())]) {
        if (at_old, at_new) != (next_old, next_new) {
            text.push_str(&format!("@@ {path}:{} @@\n", head + at_old + 1));
        }
        old.iter().take(next_old).skip(at_old).for_each(|line| text.push_str(&format!("-{line}\n")));
        new.iter().take(next_new).skip(at_new).for_each(|line| text.push_str(&format!("+{line}\n")));
        (at_old, at_new) = (next_old + 1, next_new + 1);
    }
    text
}

/// The places of the lines of a longest common subsequence.
fn common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    let at = |longest: &[u32], row: usize, column: usize| longest.get(row * width + column).copied().unwrap_or(0);
    for (row, old) in old.iter().enumerate().rev() {
        for (column, new) in new.iter().enumerate().rev() {
            let best = if old == new {
                at(&longest, row + 1, column + 1) + 1
            } else {
                at(&longest, row + 1, column).max(at(&longest, row, column + 1))
            };
            if let Some(slot) = longest.get_mut(row * width + column) {
                *slot = best;
            }
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, Vec::new());
    while let (Some(left), Some(right)) = (old.get(row), new.get(column)) {
        if left == right {
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if at(&longest, row + 1, column) >= at(&longest, row, column + 1) {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn a_diff_has_the_lines_that_differ() {
        assert_eq!(lines("a", "1\n2\n3\n", "1\nx\ny\n3\n"), "@@ a:2 @@\n-2\n+x\n+y\n");
        assert_eq!(lines("a", "1\n", "1\n1\n"), "@@ a:2 @@\n+1\n");
        assert_eq!(lines("a", "1\n2\n3\n4\n", "0\n1\n2\n4\n5\n"), "@@ a:1 @@\n+0\n@@ a:3 @@\n-3\n@@ a:5 @@\n+5\n");
        assert_eq!(lines("a", "", ""), "");
    }
}
