//! Choices out of bytes, and bytes out of a seed.

/// Bytes as a row of choices: the same bytes choose the same, and when they are used up every choice is the first.
#[cfg_attr(not(feature = "sql"), expect(dead_code, reason = "only expressions are made of choices"))]
pub(crate) struct Choices<'a> {
    rest: &'a [u8],
}

#[cfg_attr(not(feature = "sql"), expect(dead_code, reason = "only expressions are made of choices"))]
impl<'a> Choices<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// One of `count`, which is at most 256.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        usize::from(first) % count.max(1)
    }

    pub(crate) fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// Numbers that look random and are the same for a seed on every machine: SplitMix64.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`; 0 when that is 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(count.max(1)).unwrap_or(u64::MAX)).unwrap_or(0)
    }
}
