//! Asks a person, on the terminal, before anything that costs or deletes.

use std::io::{self, IsTerminal, Write};

use tokio::sync::oneshot;

use crate::problem::Problem;

/// Goes on only when a person agrees, or has with `--yes`.
///
/// # Errors
/// [`Problem::Usage`] when there is nobody to ask, [`Problem::Failed`] when the answer is no.
pub async fn agree(yes: bool, what: &str) -> Result<(), Problem> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Problem::Usage(format!("{what}; nobody can be asked here, so say --yes to agree")));
    }
    let mut errors = io::stderr();
    write!(errors, "{what}. Go on? [y/N] ")?;
    errors.flush()?;
    // A thread of its own: the runtime would wait for one of its own when the program is interrupted.
    let (answer, answered) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // Nobody waits any more once the program was interrupted.
        let _ = answer.send(io::stdin().read_line(&mut line).map(|_| line));
    });
    let line = answered.await.map_err(|error| Problem::Failed(error.to_string()))??;
    if agrees(&line) { Ok(()) } else { Err(Problem::Failed("nothing was done".to_owned())) }
}

fn agrees(line: &str) -> bool {
    ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str())
}

/// Says something to the person, beside the results.
pub(crate) fn say(text: &str) -> Result<(), Problem> {
    Ok(writeln!(io::stderr(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(agrees("y\n") && agrees("Yes \r\n"));
        for line in ["", "\n", "n\n", "yesterday\n", "ye\n"] {
            assert!(!agrees(line), "{line:?}");
        }
    }
}
