//! What goes wrong at the source, in messages and in the lake: one clear sentence, and nothing stored is lost.

mod messages;
mod source;
