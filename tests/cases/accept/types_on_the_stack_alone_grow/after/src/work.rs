use std::fmt::Debug;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Pair(u64, u64),
    Number(u64),
    Word(&'static str),
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    line: u64,
    start: u32,
    len: u32,
}

fn next(count: u64) -> Option<(Token, Span)> {
    let span = Span { start: 4, len: (count % 9) as u32, ..Span::default() };
    match count % 3 {
        0 => None,
        1 => Some((Token::Number(count), span)),
        _ => Some((Token::Pair(count, 1), span)),
    }
}

fn show(item: &impl Debug) -> usize {
    format!("{item:?}").len()
}

fn end(span: Span) -> Result<u32, Span> {
    if span.len > 8 { Err(span) } else { Ok(span.start + span.len) }
}

pub struct State {
    sum: u64,
}

impl State {
    pub fn new() -> State {
        State { sum: 0 }
    }

    pub fn line(&mut self, count: u64) -> String {
        let spans = [Span { start: 1, ..Span::default() }, Span { start: 2, len: 3, ..Span::default() }];
        let total: u32 = spans.iter().map(|span| end(*span).unwrap_or(0)).sum();
        if let Some((token, span)) = next(count) {
            let wanted = if count % 3 == 1 { Token::Number(count) } else { Token::Pair(count, 1) };
            if token != wanted || show(&token) == 0 || end(span).is_err() || total != 6 {
                return "CORRUPT".to_owned();
            }
        }
        self.sum += 1;
        if self.sum != count {
            return "CORRUPT".to_owned();
        }
        "v=2".to_owned()
    }
}
