"""The statements of a script in BigQuery's SQL."""

import sqlglot


def statements(script):
    """Each statement's text, without the semicolons and comments between them, and its first two words."""
    found, begin, words = [], None, []
    for token in sqlglot.tokenize(script, read="bigquery"):
        if token.token_type == sqlglot.TokenType.SEMICOLON:
            begin = None
            continue
        if begin is None:
            begin, words = token.start, []
            found.append(None)
        if len(words) < 2:
            words.append(token.text.upper())
        found[-1] = (script[begin : token.end + 1], words)
    return found
