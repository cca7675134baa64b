//! Inputs made of saved ones.
//!
//! Invariant: the same inputs, words and seed make the same input everywhere, so a failure is named by its seed.

use std::ops::Range;

use crate::choices::Seeded;

/// An input does not grow beyond this, except by a bomb of one repeated word.
const LONGEST: usize = 16 * 1024;
/// Numbers at which something ends.
const EDGES: &[&str] = &[
    "0",
    "-1",
    "1",
    "127",
    "255",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967295",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999999999999999999",
    "1e308",
    "1e309",
    "-0.0",
    "0001",
    "9999",
    "262142",
    "-262143",
    "NaN",
    "inf",
];

/// One input from those in `saved`, of which there must be one at least.
pub fn mutated(saved: &[(String, Vec<u8>)], words: &[&str], seed: u64) -> Vec<u8> {
    let mut random = Seeded(seed);
    let mut text = saved[random.below(saved.len())].1.clone();
    for _ in 0..=random.below(4) {
        step(&mut text, saved, words, &mut random);
    }
    text
}

fn step(text: &mut Vec<u8>, saved: &[(String, Vec<u8>)], words: &[&str], random: &mut Seeded) {
    let other = &saved[random.below(saved.len())].1;
    match random.below(12) {
        // The start of one and the end of another.
        0 => {
            let (cut, from) = (place(text, random), place(other, random));
            text.truncate(cut);
            text.extend_from_slice(&other[from..]);
        }
        // A part of another in the place of one of its own.
        1 | 2 => {
            let (own, theirs) = (part(text, random), part(other, random));
            text.splice(own, other[theirs].iter().copied());
        }
        3 => {
            let own = part(text, random);
            text.drain(own);
        }
        4 => {
            let own = part(text, random);
            let copy = text[own.clone()].to_vec();
            for _ in 0..=random.below(3) {
                text.splice(own.start..own.start, copy.iter().copied());
            }
        }
        // Two parts change places.
        5 => {
            let (one, two) = (part(text, random), part(text, random));
            if one.end <= two.start {
                let moved = text[two.clone()].to_vec();
                text.drain(two);
                text.splice(one.start..one.start, moved);
            }
        }
        6 => flip(text, random),
        7 => {
            let own = part(text, random);
            text.splice(own, EDGES[random.below(EDGES.len())].bytes());
        }
        8..11 => {
            let at = place(text, random);
            text.splice(at..at, word(words, random).bytes());
        }
        // A bomb: one word over and over.
        _ if random.below(8) == 0 => {
            let at = place(text, random);
            let bomb = word(words, random).repeat(1 << random.below(14));
            text.splice(at..at, bomb.bytes().take(1 << 16));
            return;
        }
        _ => flip(text, random),
    }
    text.truncate(LONGEST);
}

fn word<'w>(words: &[&'w str], random: &mut Seeded) -> &'w str {
    let all = words.len() + EDGES.len();
    let at = random.below(all);
    words.get(at).or_else(|| EDGES.get(at - words.len())).copied().unwrap_or_default()
}

fn flip(text: &mut Vec<u8>, random: &mut Seeded) {
    if text.is_empty() {
        text.push(0);
    }
    let at = random.below(text.len());
    text[at] ^= 1 << random.below(8);
}

/// A place between two words, or anywhere.
fn place(text: &[u8], random: &mut Seeded) -> usize {
    let at = random.below(text.len() + 1);
    if random.below(4) == 0 {
        return at;
    }
    (at..text.len()).find(|&at| at == 0 || is_word(text[at - 1]) != is_word(text[at])).unwrap_or(text.len())
}

/// A part of a text: a word, a line, or anything up to 64 bytes.
fn part(text: &[u8], random: &mut Seeded) -> Range<usize> {
    let start = random.below(text.len() + 1);
    let run = |keep: fn(u8) -> bool| {
        let from = text[..start].iter().rposition(|&byte| !keep(byte)).map_or(0, |at| at + 1);
        let to = text[start..].iter().position(|&byte| !keep(byte)).map_or(text.len(), |at| start + at);
        from..to
    };
    match random.below(3) {
        0 => run(is_word),
        1 => {
            let line = run(|byte| byte != b'\n');
            line.start..(line.end + 1).min(text.len())
        }
        _ => start..(start + random.below(64)).min(text.len()),
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
