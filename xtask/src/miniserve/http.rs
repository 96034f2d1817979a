//! A page over HTTP, strictly: whole or an error.
//!
//! It knows what one server in the same machine answers: status 200, and a body with a length or in chunks. Anything else
//! is an error that says what came. It knows neither redirects nor encodings.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Longest wait for bytes, and what is late for an answer.
pub(crate) const LATE: Duration = Duration::from_secs(1);
/// Longest line and largest body that are believed.
const LINE: u64 = 64 << 10;
const BODY: u64 = 16 << 20;

/// An open connection to the program.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(port: u16) -> Result<Connection, String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|why| format!("cannot connect: {why}"))?;
        let options = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(LATE)));
        options.map_err(|why| format!("cannot set up the connection: {why}"))?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Asks for the page, and leaves the connection open.
    pub(crate) fn get(&mut self) -> Result<Vec<u8>, String> {
        self.ask("keep-alive")?;
        let body = answer(&mut self.0)?;
        if self.0.buffer().is_empty() { Ok(body) } else { Err("bytes after the end of the answer".to_owned()) }
    }

    /// Asks for the page, after which the server has to close.
    pub(crate) fn get_last(mut self) -> Result<Vec<u8>, String> {
        self.ask("close")?;
        let body = answer(&mut self.0)?;
        match self.0.read(&mut [0]) {
            Ok(0) => Ok(body),
            Ok(_) => Err("bytes after the end of the answer".to_owned()),
            Err(why) => Err(format!("the connection is not closed in order: {why}")),
        }
    }

    fn ask(&mut self, connection: &str) -> Result<(), String> {
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).map_err(|why| format!("cannot ask: {why}"))
    }
}

/// Reads one answer, and gives its body.
fn answer(from: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let status = line(from)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the answer begins with `{status}`"));
    }
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(from)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| format!("no header: `{header}`"))?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(number(value.trim(), 10)?),
            "transfer-encoding" => chunked = value.trim() == "chunked",
            _ => {}
        }
    }
    match length {
        Some(length) if !chunked => bytes(from, length),
        None if chunked => chunks(from),
        _ => Err(format!("neither length nor chunks, or both: length {length:?}, chunked {chunked}")),
    }
}

fn chunks(from: &mut impl BufRead) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let length = number(&line(from)?, 16)?;
        body.extend(bytes(from, length)?);
        let end = line(from)?;
        if !end.is_empty() {
            return Err(format!("a chunk ends with `{end}`"));
        }
        if length == 0 {
            return Ok(body);
        }
    }
}

fn line(from: &mut impl BufRead) -> Result<String, String> {
    let mut line = String::new();
    from.take(LINE).read_line(&mut line).map_err(|why| format!("the answer breaks off: {why}"))?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(format!("the answer breaks off in `{line}`")),
    }
}

fn bytes(from: &mut impl BufRead, length: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(length.min(BODY)).read_to_end(&mut bytes).map_err(|why| format!("the body breaks off: {why}"))?;
    if bytes.len() as u64 == length {
        Ok(bytes)
    } else {
        Err(format!("the body has {} bytes of {length}", bytes.len()))
    }
}

fn number(text: &str, radix: u32) -> Result<u64, String> {
    u64::from_str_radix(text, radix).map_err(|why| format!("`{text}` is no length: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut text: &[u8]) -> Result<Vec<u8>, String> {
        answer(&mut text)
    }

    #[test]
    fn a_whole_answer_is_read() {
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Ok(b"abc".to_vec()));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(read(chunked), Ok(b"abc0123456789".to_vec()));
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        assert!(read(b"").is_err());
        assert!(read(b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nabc").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\n\r\nabc").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").is_err());
    }
}
