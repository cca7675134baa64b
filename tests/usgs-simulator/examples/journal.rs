//! Makes a journal of recorded snapshots: `journal FIRST SNAPSHOT...` writes to standard output what changed since the
//! first file.

use std::io::{self, Write};

use usgs_simulator::{Catalogue, Journal};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = std::env::args_os().skip(1);
    let first = Catalogue::from_path(files.next().ok_or("which file is the first?")?)?;
    let snapshots = files.map(Catalogue::from_path).collect::<Result<_, _>>()?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    Journal::between(&first, snapshots).write(&mut out)?;
    out.flush()?;
    Ok(())
}
