//! FarmHash's `Fingerprint64`, which BigQuery's FARM_FINGERPRINT is.
//!
//! The algorithm is fixed for all time by its specification, farmhashna in
//! <https://github.com/google/farmhash/blob/master/src/farmhash.cc>.

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;

/// The eight bytes at `place`. The caller keeps within the text, as the length tables below do.
fn word(text: &[u8], place: usize) -> u64 {
    text[place..].iter().take(8).rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

fn half(text: &[u8], place: usize) -> u64 {
    text[place..].iter().take(4).rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

fn turn(value: u64, by: u32) -> u64 {
    value.rotate_right(by)
}

fn shift_mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

fn mix(u: u64, v: u64, multiplier: u64) -> u64 {
    let a = shift_mix((u ^ v).wrapping_mul(multiplier));
    shift_mix((v ^ a).wrapping_mul(multiplier)).wrapping_mul(multiplier)
}

fn up_to_16(text: &[u8]) -> u64 {
    let length = text.len() as u64;
    let multiplier = K2.wrapping_add(length.wrapping_mul(2));
    match text.len() {
        8.. => {
            let a = word(text, 0).wrapping_add(K2);
            let b = word(text, text.len() - 8);
            let c = turn(b, 37).wrapping_mul(multiplier).wrapping_add(a);
            let d = turn(a, 25).wrapping_add(b).wrapping_mul(multiplier);
            mix(c, d, multiplier)
        }
        4.. => mix(length.wrapping_add(half(text, 0) << 3), half(text, text.len() - 4), multiplier),
        1.. => {
            let (a, b, c) = (text[0], text[text.len() >> 1], text[text.len() - 1]);
            let y = u64::from(a).wrapping_add(u64::from(b) << 8);
            let z = length.wrapping_add(u64::from(c) << 2);
            shift_mix(y.wrapping_mul(K2) ^ z.wrapping_mul(K0)).wrapping_mul(K2)
        }
        0 => K2,
    }
}

fn up_to_32(text: &[u8]) -> u64 {
    let multiplier = K2.wrapping_add((text.len() as u64).wrapping_mul(2));
    let a = word(text, 0).wrapping_mul(K1);
    let b = word(text, 8);
    let c = word(text, text.len() - 8).wrapping_mul(multiplier);
    let d = word(text, text.len() - 16).wrapping_mul(K2);
    mix(
        turn(a.wrapping_add(b), 43).wrapping_add(turn(c, 30)).wrapping_add(d),
        a.wrapping_add(turn(b.wrapping_add(K2), 18)).wrapping_add(c),
        multiplier,
    )
}

fn up_to_64(text: &[u8]) -> u64 {
    let end = text.len();
    let multiplier = K2.wrapping_add((end as u64).wrapping_mul(2));
    let a = word(text, 0).wrapping_mul(K2);
    let b = word(text, 8);
    let c = word(text, end - 8).wrapping_mul(multiplier);
    let d = word(text, end - 16).wrapping_mul(K2);
    let y = turn(a.wrapping_add(b), 43).wrapping_add(turn(c, 30)).wrapping_add(d);
    let z = mix(y, a.wrapping_add(turn(b.wrapping_add(K2), 18)).wrapping_add(c), multiplier);
    let e = word(text, 16).wrapping_mul(multiplier);
    let f = word(text, 24);
    let g = y.wrapping_add(word(text, end - 32)).wrapping_mul(multiplier);
    let h = z.wrapping_add(word(text, end - 24)).wrapping_mul(multiplier);
    mix(
        turn(e.wrapping_add(f), 43).wrapping_add(turn(g, 30)).wrapping_add(h),
        e.wrapping_add(turn(f.wrapping_add(a), 18)).wrapping_add(g),
        multiplier,
    )
}

fn weak(text: &[u8], place: usize, a: u64, b: u64) -> (u64, u64) {
    let (w, x, y, z) = (word(text, place), word(text, place + 8), word(text, place + 16), word(text, place + 24));
    let a = a.wrapping_add(w);
    let b = turn(b.wrapping_add(a).wrapping_add(z), 21);
    let c = a;
    let a = a.wrapping_add(x).wrapping_add(y);
    let b = b.wrapping_add(turn(a, 44));
    (a.wrapping_add(z), b.wrapping_add(c))
}

fn longer(text: &[u8]) -> u64 {
    const SEED: u64 = 81;
    let mut x = SEED;
    let mut y = SEED.wrapping_mul(K1).wrapping_add(113);
    let mut z = shift_mix(y.wrapping_mul(K2).wrapping_add(113)).wrapping_mul(K2);
    let (mut v, mut w) = ((0_u64, 0_u64), (0_u64, 0_u64));
    x = x.wrapping_mul(K2).wrapping_add(word(text, 0));
    let end = (text.len() - 1) / 64 * 64;
    for place in (0..end).step_by(64) {
        x = turn(x.wrapping_add(y).wrapping_add(v.0).wrapping_add(word(text, place + 8)), 37).wrapping_mul(K1);
        y = turn(y.wrapping_add(v.1).wrapping_add(word(text, place + 48)), 42).wrapping_mul(K1);
        x ^= w.1;
        y = y.wrapping_add(v.0).wrapping_add(word(text, place + 40));
        z = turn(z.wrapping_add(w.0), 33).wrapping_mul(K1);
        v = weak(text, place, v.1.wrapping_mul(K1), x.wrapping_add(w.0));
        w = weak(text, place + 32, z.wrapping_add(w.1), y.wrapping_add(word(text, place + 16)));
        std::mem::swap(&mut z, &mut x);
    }
    let multiplier = K1.wrapping_add((z & 0xff) << 1);
    let place = text.len() - 64;
    w.0 = w.0.wrapping_add(((text.len() - 1) & 63) as u64);
    v.0 = v.0.wrapping_add(w.0);
    w.0 = w.0.wrapping_add(v.0);
    x = turn(x.wrapping_add(y).wrapping_add(v.0).wrapping_add(word(text, place + 8)), 37).wrapping_mul(multiplier);
    y = turn(y.wrapping_add(v.1).wrapping_add(word(text, place + 48)), 42).wrapping_mul(multiplier);
    x ^= w.1.wrapping_mul(9);
    y = y.wrapping_add(v.0.wrapping_mul(9)).wrapping_add(word(text, place + 40));
    z = turn(z.wrapping_add(w.0), 33).wrapping_mul(multiplier);
    v = weak(text, place, v.1.wrapping_mul(multiplier), x.wrapping_add(w.0));
    w = weak(text, place + 32, z.wrapping_add(w.1), y.wrapping_add(word(text, place + 16)));
    std::mem::swap(&mut z, &mut x);
    mix(
        mix(v.0, w.0, multiplier).wrapping_add(shift_mix(y).wrapping_mul(K0)).wrapping_add(z),
        mix(v.1, w.1, multiplier).wrapping_add(x),
        multiplier,
    )
}

/// The fingerprint as BigQuery's signed INT64.
pub(crate) fn fingerprint(text: &[u8]) -> i64 {
    let unsigned = match text.len() {
        0..=16 => up_to_16(text),
        17..=32 => up_to_32(text),
        33..=64 => up_to_64(text),
        _ => longer(text),
    };
    unsigned.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn every_class_of_length_agrees_with_google_s_implementation() {
        let text = "0123456789abcdefghijklmnopqrstuvwxyz".repeat(8);
        // As google/farmhash's Fingerprint64 gives them for the first bytes of `text`.
        let known: [(usize, i64); 6] = [
            (20, 431_701_769_709_949_819),
            (40, 2_600_928_175_939_258_865),
            (64, 1_368_775_656_680_954_964),
            (65, -3_519_464_382_464_957_991),
            (128, 3_887_300_331_607_618_324),
            (200, 5_745_000_470_381_083_331),
        ];
        for (length, expected) in known {
            assert_eq!(fingerprint(&text.as_bytes()[..length]), expected, "{length}");
        }
    }
}
