//! Text to one query of BigQuery's syntax, with bounds on its shape.
//!
//! Invariant: whatever text comes in, the tree that comes out is shallow enough to be walked,
//! planned and dropped on an ordinary thread's stack.

use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::error::{Refusal, from_parser};
use super::session::RECURSION_LIMIT;

/// The deepest nesting of brackets. The parser tries several readings of each opening one, so
/// this also bounds its time.
const BRACKETS: usize = 48;
/// The longest chain of operators between two commas, summed over the brackets around it: such a
/// chain becomes a tree as deep as it is long, without any nesting in the text.
const CHAIN: usize = 200;
/// What an operator of arithmetic counts for in a chain: it becomes a call, which is dear to plan.
const ARITHMETIC: usize = 3;
/// The most joins and set operations.
const RELATIONS: usize = 150;
/// The deepest nesting of queries. The planner's time grows with a power of that of scalar ones.
const QUERIES: usize = 10;
/// The longest text, in tokens.
const TOKENS: usize = 200_000;

/// The one query in `sql`, and the tokens it was read from.
pub(crate) fn parse(sql: &str) -> Result<(Box<Query>, Vec<TokenWithSpan>), Box<Refusal>> {
    let tokens = Tokenizer::new(&BigQueryDialect, sql)
        .tokenize_with_location()
        .map_err(|error| Refusal { at: error.location, message: lower(&error.message) })?;
    bound(&tokens)?;
    let significant = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let first = tokens.iter().find(significant);
    let Some(first) = first else {
        return Err(Refusal::new(Span::empty(), "the text holds no query"));
    };
    let after = tokens
        .iter()
        .filter(significant)
        .skip_while(|token| token.token != Token::SemiColon)
        .find(|token| !matches!(token.token, Token::SemiColon | Token::EOF));
    if let Token::Word(word) = &first.token
        && !matches!(word.keyword, Keyword::SELECT | Keyword::WITH)
    {
        if word.keyword == Keyword::FROM {
            return Err(Refusal::new(first.span, "pipe syntax is not supported: a query begins with SELECT or WITH"));
        }
        let message = format!("{} is not supported: only one query (SELECT or WITH) is", word.value.to_uppercase());
        return Err(Refusal::new(first.span, message));
    }
    let statements = Parser::new(&BigQueryDialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .with_tokens_with_locations(tokens.clone())
        .parse_statements()
        .map_err(|error| match error {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => from_parser(&message),
            ParserError::RecursionLimitExceeded => {
                Refusal { at: Location::new(1, 1), message: "the query is nested too deeply".into() }
            }
        })?;
    if let Some(after) = after {
        return Err(Refusal::new(after.span, "more than one statement is not supported: only one query is"));
    }
    match statements.into_iter().next() {
        Some(Statement::Query(query)) => Ok((query, tokens)),
        _ => Err(Refusal::new(first.span, "this statement is not supported: only one query (SELECT or WITH) is")),
    }
}

fn lower(message: &str) -> String {
    let mut letters = message.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Refuses a text whose tree would be too deep or too large.
fn bound(tokens: &[TokenWithSpan]) -> Result<(), Box<Refusal>> {
    if tokens.len() > TOKENS {
        return Err(Refusal::new(tokens[TOKENS].span, format!("the query has more than {TOKENS} tokens")));
    }
    // Of each open bracket: the chain in it, and whether it holds a query.
    let mut levels = vec![(0_usize, false)];
    let (mut angles, mut relations, mut prefixes, mut path) = (0_usize, 0_usize, 0_usize, 0_usize);
    for token in tokens {
        let mut step = 0;
        let mut fresh = false;
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => levels.push((0, false)),
            Token::RParen | Token::RBracket | Token::RBrace => {
                if levels.len() > 1 {
                    levels.pop();
                }
                step = usize::from(token.token == Token::RBracket);
            }
            Token::Comma => fresh = true,
            Token::Lt => {
                angles += 1;
                step = 1;
            }
            Token::Gt => {
                angles = angles.saturating_sub(1);
                step = 1;
            }
            Token::Plus | Token::Minus | Token::Mul | Token::Div => step = ARITHMETIC,
            Token::Word(word) => match word.keyword {
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::WHEN | Keyword::THEN | Keyword::ELSE => {
                    fresh = true;
                }
                Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::PIVOT
                | Keyword::UNPIVOT => relations += 1,
                Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT => step = 1,
                _ => {}
            },
            Token::Period | Token::Number(..) | Token::SingleQuotedString(_) | Token::SemiColon | Token::EOF => {}
            _ => step = 1,
        }
        if fresh {
            angles = 0;
        }
        if let Some((chain, query)) = levels.last_mut() {
            *chain = if fresh { 0 } else { *chain + step };
            *query |= matches!(&token.token, Token::Word(word) if word.keyword == Keyword::SELECT);
        }
        prefixes = if is_prefix(&token.token) { prefixes + 1 } else { 0 };
        path = match &token.token {
            Token::Period => path + 1,
            Token::Word(_) => path,
            _ => 0,
        };
        let queries = levels.iter().filter(|(_, query)| *query).count();
        if queries > QUERIES || [levels.len(), angles, prefixes, path].iter().any(|depth| *depth > BRACKETS) {
            return Err(Refusal::new(token.span, "the query is nested too deeply"));
        }
        if step > 0 && levels.iter().map(|(chain, _)| chain).sum::<usize>() > CHAIN {
            return Err(Refusal::new(token.span, "the query chains too many operators"));
        }
        if relations > RELATIONS {
            let message = format!("the query has more than {RELATIONS} joins and set operations");
            return Err(Refusal::new(token.span, message));
        }
    }
    Ok(())
}

/// Whether a token begins an expression inside which the next may begin another.
fn is_prefix(token: &Token) -> bool {
    match token {
        Token::Minus | Token::Plus | Token::Tilde => true,
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::NOT | Keyword::CASE | Keyword::WHEN | Keyword::ARRAY | Keyword::STRUCT | Keyword::WITH
        ),
        _ => false,
    }
}
