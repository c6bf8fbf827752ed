//! Archives with false sizes never take more memory than their own length justifies. This is a test
//! program with a single test, since the peak memory of a process covers all its tests.

#![cfg(target_os = "linux")]

mod common;

use cifar_data::Silent;
use cifar_data::sources::Labels;
use cifar_data::sources::archives::read;
use common::archives::{File, batches, binary, gz, packed, python, tar, unpack};
use common::{check_refused, put, temporary};
use tar::EntryType::{GNULongName, Regular};

/// Peak memory of this process, in MB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") / 1024
}

#[test]
fn memory_is_bounded() {
    let root = temporary();
    let path = root.path().join("x.tar.gz");
    let files = binary(&batches([1; 6]));
    let check = |bytes: &[u8], problem: &str| {
        put(&path, bytes);
        let before = peak();
        check_refused(read(&path, Labels::Fine, &Silent), &[problem]);
        let grown = peak() - before;
        assert!(grown < 64, "{problem}: {grown} MB for {} bytes", bytes.len());
    };

    // Large and real: 512 MB of zeros, which compress to half a megabyte. They are created and
    // freed before the measurement.
    for (name, problem) in [
        ("x/data_batch_1.bin", "x/data_batch_1.bin: has 536870912 bytes; data_batch_1.bin of the binary version"),
        ("x/readme.html", "x/readme.html: has 536870912 bytes; allowed are"),
    ] {
        let bomb = member(name, Regular, 1 << 29);
        check(&bomb, problem);
    }
    check(&member("././@LongLink", GNULongName, 1 << 29), "is a name of more than 100 characters");

    // Large and claimed only.
    let mut header = tar(&[(Regular, "x/data_batch_1.bin", b"")]);
    resize(&mut header, 80_000_000);
    check(&gz(&header), "is cut short");

    // Pickles with claimed lengths.
    let python = python(&batches([1; 6]));
    for pickle in [
        b"\x80\x02B\xff\xff\xff\xff".as_slice(),
        b"\x80\x02Nr\xff\xff\xff\xff.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        let mut files: Vec<File> = python.clone();
        files[1].1 = pickle.to_vec();
        check(&packed("x", &files), "x/data_batch_1: ");
        let before = peak();
        check_refused(read(&unpack(&root.path().join("folder"), &files), Labels::Fine, &Silent), &["data_batch_1: "]);
        assert!(peak() - before < 64);
    }
    check(&packed("x", &files[..3]), "has no data_batch_3.bin");
}

/// Returns an archive with one member of zeros.
fn member(name: &str, kind: tar::EntryType, size: usize) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut header = tar(&[(kind, name, b"")]);
    resize(&mut header, size as u64);
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(&header[..512]).expect("memory takes it");
    std::io::copy(&mut std::io::repeat(0).take(size as u64 + 1024), &mut out).expect("memory takes it");
    out.finish().expect("memory takes it")
}

/// Replaces the size in the first header of a tar file.
fn resize(tar: &mut [u8], size: u64) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes().copy_from_slice(&tar[..512]);
    header.set_size(size);
    header.set_cksum();
    tar[..512].copy_from_slice(header.as_bytes());
}
