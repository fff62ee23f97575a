//! A tar archive (POSIX.1-1988 ustar) in its one form: so that an evidence file can be opened in thirty years with any tool,
//! and every changed bit shows.
//!
//! Regular files with names up to 100 bytes, mode 0644, owner 0, one time for all; two empty blocks at the end. Reading
//! accepts exactly what [`write`] makes: what is read is written again and must give the same bytes.

use schemas::Millis;

const BLOCK: usize = 512;
/// Longest content: the octal size field has eleven digits, an evidence file is far smaller.
const SIZE_MAX: usize = 1 << 30;
/// Most files in one.
const FILES_MAX: usize = 1_000;

/// A file in the archive.
pub(crate) type File<'a> = (&'a str, &'a [u8]);

/// The archive with these files; none when a name or a content does not fit.
pub(crate) fn write(files: &[File<'_>], at: Millis) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(files.iter().map(|(_, bytes)| bytes.len() + 2 * BLOCK).sum::<usize>() + 2 * BLOCK);
    for (name, bytes) in files {
        if name.is_empty() || name.len() > 100 || !name.is_ascii() || bytes.len() > SIZE_MAX {
            return None;
        }
        out.extend_from_slice(&header(name, bytes.len(), at));
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Some(out)
}

/// The files of an archive that [`write`] made, and its time.
pub(crate) fn read(bytes: &[u8]) -> Option<(Vec<File<'_>>, Millis)> {
    let mut files = Vec::new();
    let mut at = Millis(0);
    let mut rest = bytes;
    while rest.first().is_some_and(|byte| *byte != 0) && files.len() < FILES_MAX {
        let (head, after) = rest.split_at_checked(BLOCK)?;
        let name = std::str::from_utf8(head.get(..100)?).ok()?.trim_end_matches('\0');
        let size = usize::try_from(octal(head.get(124..135)?)?).ok().filter(|size| *size <= SIZE_MAX)?;
        at = Millis(i64::try_from(octal(head.get(136..147)?)?).ok()?.checked_mul(1_000)?);
        let (content, _) = after.split_at_checked(size)?;
        files.push((name, content));
        rest = after.get(size.next_multiple_of(BLOCK)..)?;
    }
    (write(&files, at)? == bytes).then_some((files, at))
}

fn octal(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok()
}

fn header(name: &str, size: usize, at: Millis) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |from: usize, text: &str| block[from..from + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    // Eleven octal digits of seconds reach beyond the year 2200.
    put(136, &format!("{:011o}\0", at.0.div_euclid(1_000).clamp(0, 0o77_777_777_777)));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const AT: Millis = Millis(1_767_261_600_000);

    #[test]
    fn files_survive_and_every_changed_bit_shows() {
        let files: [File<'_>; 3] = [("README.txt", b"text"), ("empty", b""), ("block", &[7; 512])];
        let good = write(&files, AT).unwrap();
        assert_eq!(read(&good), Some((files.to_vec(), AT)));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let same = read(&bytes).is_some_and(|(found, at)| found == files && at == AT);
            assert!(!same, "bit {bit}");
        }
        for cut in (0..good.len()).step_by(37) {
            assert_eq!(read(&good[..cut]), None);
        }
    }

    #[test]
    fn the_systems_tar_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evidence.tar");
        std::fs::write(&path, write(&[("a.txt", b"one"), ("b.bin", &[0, 1, 2])], AT).unwrap()).unwrap();
        let output = std::process::Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(folder.path()).output();
        let Ok(output) = output else {
            assert!(std::env::var_os("ZEGEL_ORACLES").is_none(), "ZEGEL_ORACLES is set and tar is absent");
            println!("SKIPPED: tar is absent");
            return;
        };
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read(folder.path().join("b.bin")).unwrap(), [0, 1, 2]);
    }
}
