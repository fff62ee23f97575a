//! The bare loops that formats are measured beside: the same parser, the same tokens, no rules; and the parsers alone.

use anyhow::{Result, anyhow};
use quick_xml::events::Event;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use zegel_crypto::pseudonym::Reversible;

fn encoded(keys: &mut Reversible, niss: &str, token: &mut Vec<u8>) -> Result<()> {
    token.clear();
    keys.encode(niss.as_bytes(), token).map_err(|error| anyhow!("{error}"))
}

fn input(batch: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(1 << 20, File::open(batch)?))
}

fn output(out: &Path) -> Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 20, File::create(out)?))
}

pub(super) fn parse_csv(batch: &Path) -> Result<u64> {
    let mut reader = csv::Reader::from_reader(input(batch)?);
    let (mut record, mut rows) = (csv::ByteRecord::new(), 0);
    while reader.read_byte_record(&mut record)? {
        rows += 1;
    }
    Ok(rows)
}

pub(super) fn bare_csv(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let mut reader = csv::Reader::from_reader(input(batch)?);
    let mut writer = csv::Writer::from_writer(output(out)?);
    let (mut record, mut token) = (csv::StringRecord::new(), Vec::new());
    while reader.read_record(&mut record)? {
        encoded(keys, &record[0], &mut token)?;
        writer.write_field(&token)?;
        writer.write_record(record.iter().skip(1))?;
    }
    Ok(writer.flush()?)
}

pub(super) fn parse_lines(batch: &Path) -> Result<u64> {
    Ok(input(batch)?.split(b'\n').count() as u64)
}

pub(super) fn bare_fixed(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let (mut writer, mut token) = (output(out)?, Vec::new());
    for line in input(batch)?.lines() {
        let line = line?;
        encoded(keys, &line[..11], &mut token)?;
        writer.write_all(&token)?;
        writer.write_all(b",")?;
        writer.write_all(&line.as_bytes()[11..])?;
        writer.write_all(b"\n")?;
    }
    Ok(writer.flush()?)
}

pub(super) fn parse_json_lines(batch: &Path) -> Result<u64> {
    let mut rows = 0;
    for line in input(batch)?.lines() {
        serde_json::from_str::<serde::de::IgnoredAny>(&line?)?;
        rows += 1;
    }
    Ok(rows)
}

/// The parser over the whole Bundle; its rows are not counted there.
pub(super) fn parse_json(batch: &Path) -> Result<u64> {
    let text = fs::read(batch)?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&text)?;
    Ok(u64::MAX)
}

/// Line by line: the text around the number as it is, the number as a token.
pub(super) fn bare_json(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let (mut writer, mut token) = (output(out)?, Vec::new());
    for line in input(batch)?.lines() {
        let line = line?;
        let row = line.trim_end_matches(',');
        if row.starts_with('{') && row.ends_with('}') {
            serde_json::from_str::<serde::de::IgnoredAny>(row)?;
        }
        let place = line.find("\"niss\":\"").map(|at| at + 8).or_else(|| line.rfind("\"value\":\"").map(|at| at + 9));
        if let Some(place) = place {
            encoded(keys, &line[place..place + 11], &mut token)?;
            writer.write_all(&line.as_bytes()[..place])?;
            writer.write_all(&token)?;
            writer.write_all(&line.as_bytes()[place + 11..])?;
        } else {
            writer.write_all(line.as_bytes())?;
        }
        writer.write_all(b"\n")?;
    }
    Ok(writer.flush()?)
}

pub(super) fn parse_xml(batch: &Path) -> Result<u64> {
    let mut reader = quick_xml::NsReader::from_reader(input(batch)?);
    let (mut buffer, mut events) = (Vec::new(), 0);
    loop {
        buffer.clear();
        match reader.read_resolved_event_into(&mut buffer)?.1 {
            Event::Eof => return Ok(events),
            _ => events += 1,
        }
    }
}

pub(super) fn bare_xml(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let mut reader = quick_xml::NsReader::from_reader(input(batch)?);
    let mut writer = output(out)?;
    let (mut buffer, mut token, mut is_number) = (Vec::new(), Vec::new(), false);
    loop {
        buffer.clear();
        match reader.read_resolved_event_into(&mut buffer)?.1 {
            Event::Eof => return Ok(writer.flush()?),
            Event::Start(tag) => {
                is_number = tag.name().into_inner() == "id" && tag.contains("INSS");
                write!(writer, "<{}>", &*tag)?;
            }
            Event::Empty(tag) => write!(writer, "<{}/>", &*tag)?,
            Event::End(tag) => write!(writer, "</{}>", &*tag)?,
            Event::Text(text) if std::mem::take(&mut is_number) => {
                encoded(keys, &text, &mut token)?;
                writer.write_all(&token)?;
            }
            Event::Text(text) => writer.write_all(text.as_bytes())?,
            _ => {}
        }
    }
}

pub(super) fn parse_hl7(batch: &Path) -> Result<u64> {
    let mut fields = 0;
    for segment in input(batch)?.split(b'\r') {
        fields += segment?.split(|byte| *byte == b'|').count() as u64;
    }
    Ok(fields)
}

pub(super) fn bare_hl7(batch: &Path, out: &Path, keys: &mut Reversible) -> Result<()> {
    let (mut writer, mut token) = (output(out)?, Vec::new());
    for segment in input(batch)?.split(b'\r') {
        let segment = String::from_utf8(segment?)?;
        for (index, field) in segment.split('|').enumerate() {
            if index > 0 {
                writer.write_all(b"|")?;
            }
            if index == 3 && segment.starts_with("PID") {
                let (number, rest) = field.split_once('^').unwrap_or((field, ""));
                encoded(keys, number, &mut token)?;
                writer.write_all(&token)?;
                writer.write_all(b"^")?;
                writer.write_all(rest.as_bytes())?;
            } else {
                writer.write_all(field.as_bytes())?;
            }
        }
        writer.write_all(b"\r")?;
    }
    Ok(writer.flush()?)
}
