//! Which line of a template a line of its rendered text came from.
//!
//! Lines that the template holds as plain text come out as they are, so the two texts are aligned on the lines they
//! share. A line that an expression made belongs to the expression's place between its neighbours. The map never
//! decreases; it is exact for plain lines and names the expression's neighbourhood for the others.

/// Beyond this many pairs of lines the alignment is not worth its time.
const MOST_PAIRS: usize = 4_000_000;

/// For each line of `rendered`, the line of `source` it came from. Both count from 1.
pub(crate) fn map_lines(source: &str, rendered: &str) -> Vec<usize> {
    let source: Vec<&str> = source.lines().collect();
    let rendered: Vec<&str> = rendered.lines().collect();

    let mut matched = Vec::with_capacity(rendered.len());
    let head = source.iter().zip(&rendered).take_while(|(a, b)| a == b).count();
    matched.extend((0..head).map(|line| (line, line)));
    let tail = source[head..].iter().rev().zip(rendered[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (source_end, rendered_end) = (source.len() - tail, rendered.len() - tail);
    for (s, r) in align(&source[head..source_end], &rendered[head..rendered_end]) {
        matched.push((head + s, head + r));
    }
    matched.extend((0..tail).map(|line| (source_end + line, rendered_end + line)));

    let mut lines = Vec::with_capacity(rendered.len());
    let mut next_source = 0;
    for (s, r) in matched.into_iter().chain([(source.len(), rendered.len())]) {
        fill(&mut lines, &source, &rendered, next_source..s, r);
        if r < rendered.len() {
            lines.push(s + 1);
            next_source = s + 1;
        }
    }
    lines
}

/// The heaviest common subsequence of lines, as pairs of positions. A long line counts more than a short one, so that
/// brackets and blank lines do not pull text out of place.
fn align(source: &[&str], rendered: &[&str]) -> Vec<(usize, usize)> {
    let (height, width) = (source.len(), rendered.len());
    if height.saturating_mul(width) > MOST_PAIRS {
        return Vec::new();
    }
    let weight = |line: &str| 1 + line.trim().len().min(60) as u32;
    let mut best = vec![0_u32; (height + 1) * (width + 1)];
    let at = |s: usize, r: usize| s * (width + 1) + r;
    for s in (0..height).rev() {
        for r in (0..width).rev() {
            let skipped = best[at(s + 1, r)].max(best[at(s, r + 1)]);
            let taken = if source[s] == rendered[r] { best[at(s + 1, r + 1)] + weight(source[s]) } else { 0 };
            best[at(s, r)] = skipped.max(taken);
        }
    }
    let (mut s, mut r) = (0, 0);
    let mut pairs = Vec::new();
    while s < height && r < width {
        if source[s] == rendered[r] && best[at(s, r)] == best[at(s + 1, r + 1)] + weight(source[s]) {
            pairs.push((s, r));
            (s, r) = (s + 1, r + 1);
        } else if best[at(s, r)] == best[at(s + 1, r)] {
            s += 1;
        } else {
            r += 1;
        }
    }
    pairs
}

/// Adds the lines up to `until` that match nothing: they came from the lines of `gap`, or from the line before it.
fn fill(lines: &mut Vec<usize>, source: &[&str], rendered: &[&str], gap: std::ops::Range<usize>, until: usize) {
    let missing = until - lines.len();
    let mut from = gap.start;
    for offset in 0..missing {
        let before = lines.last().copied().unwrap_or(1);
        let line = if gap.is_empty() {
            before
        } else if gap.len() == missing {
            gap.start + offset + 1
        } else {
            let text = rendered[lines.len()];
            let maker = (from..gap.end)
                .filter(|&line| source[line].contains('{'))
                .max_by_key(|&line| (shared_start(source[line], text), std::cmp::Reverse(line)))
                .unwrap_or(from);
            from = maker;
            maker + 1
        };
        lines.push(line);
    }
}

/// How many bytes two lines have in common at their start, indentation aside.
fn shared_start(one: &str, two: &str) -> usize {
    one.trim_start().bytes().zip(two.trim_start().bytes()).take_while(|(a, b)| a == b).count()
}
