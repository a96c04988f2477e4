//! Text to statements. Flink's own statements are read here, token by token; a query is left to sqlparser.

use sqlparser::ast;
use sqlparser::dialect::Dialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::error::{SqlError, suggestion};
use super::types::data_type;
use crate::types::DataType;

/// Most tokens of one expression: more than a person writes, and few enough that no tree of them overflows a stack.
const MAX_EXPRESSION_TOKENS: usize = 1_000;

/// Flink's way of writing names: backticks quote, and case counts.
#[derive(Debug)]
struct Flink;

impl Dialect for Flink {
    fn is_identifier_start(&self, c: char) -> bool {
        c.is_alphabetic() || c == '_'
    }

    fn is_identifier_part(&self, c: char) -> bool {
        c.is_alphanumeric() || c == '_' || c == '$'
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        c == '`'
    }
}

/// A word of the program and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) at: Location,
}

/// A statement.
#[derive(Debug)]
pub(super) enum Statement {
    Table(TableStatement),
    View { name: Name, columns: Vec<Name>, query: ast::Query },
    Insert { into: Name, columns: Vec<Name>, query: ast::Query },
    Set { key: Name, value: Name },
}

/// `CREATE TABLE`.
#[derive(Debug)]
pub(super) struct TableStatement {
    pub(super) name: Name,
    pub(super) columns: Vec<ColumnStatement>,
    pub(super) key: Vec<Name>,
    pub(super) options: Vec<(Name, Name)>,
}

/// A column as declared.
#[derive(Debug)]
pub(super) struct ColumnStatement {
    pub(super) name: Name,
    pub(super) data_type: DataType,
    pub(super) not_null: bool,
}

/// All statements of a program, and everything that is none.
pub(super) fn parse(text: &str) -> (Vec<Statement>, Vec<SqlError>) {
    let tokens = match Tokenizer::new(&Flink, text).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(error) => return (Vec::new(), vec![SqlError::at(error.location, error.message)]),
    };
    let tokens: Vec<_> = tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let mut cursor = Cursor { tokens, at: 0, set_opened_at: None };
    let (mut statements, mut errors) = (Vec::new(), Vec::new());
    while let Some(token) = cursor.peek() {
        if token.token == Token::SemiColon {
            cursor.at += 1;
            continue;
        }
        match cursor.statement() {
            Ok(statement) => statements.extend(statement),
            Err(error) => {
                errors.push(error);
                cursor.skip_statement();
            }
        }
    }
    if let Some(at) = cursor.set_opened_at {
        errors.push(SqlError::at(at, "this statement set does not end; write END; after its last INSERT"));
    }
    (statements, errors)
}

struct Cursor {
    tokens: Vec<TokenWithSpan>,
    at: usize,
    set_opened_at: Option<Location>,
}

impl Cursor {
    fn peek(&self) -> Option<&TokenWithSpan> {
        self.tokens.get(self.at).filter(|t| t.token != Token::EOF)
    }

    /// Where the next token stands; after the last one at the end of the text.
    fn place(&self) -> Location {
        match (self.peek(), self.tokens.iter().take(self.at).next_back()) {
            (Some(token), _) => token.span.start,
            (None, Some(last)) => last.span.end,
            (None, None) => Location { line: 1, column: 1 },
        }
    }

    fn found(&self) -> String {
        self.peek().map_or_else(|| "the end of the text".into(), |t| format!("`{}`", t.token))
    }

    fn wanted(&self, wanted: &str) -> SqlError {
        SqlError::at(self.place(), format!("expected {wanted}, found {}", self.found()))
    }

    fn is_keyword(&self, ahead: usize, keyword: &str) -> bool {
        matches!(self.tokens.get(self.at + ahead), Some(TokenWithSpan { token: Token::Word(w), .. })
            if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let is = self.is_keyword(0, keyword);
        self.at += usize::from(is);
        is
    }

    fn keywords(&mut self, keywords: &[&str]) -> Result<(), SqlError> {
        for keyword in keywords {
            if !self.take_keyword(keyword) {
                return Err(self.wanted(keyword));
            }
        }
        Ok(())
    }

    fn take(&mut self, token: &Token) -> bool {
        let is = self.peek().is_some_and(|t| t.token == *token);
        self.at += usize::from(is);
        is
    }

    fn symbol(&mut self, token: &Token) -> Result<(), SqlError> {
        if self.take(token) { Ok(()) } else { Err(self.wanted(&format!("`{token}`"))) }
    }

    fn name(&mut self, what: &str) -> Result<Name, SqlError> {
        match self.peek() {
            Some(TokenWithSpan { token: Token::Word(word), span }) => {
                let name = Name { text: word.value.clone(), at: span.start };
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.wanted(what)),
        }
    }

    /// The name of a table or view: without a catalog or database.
    fn object(&mut self, what: &str) -> Result<Name, SqlError> {
        let name = self.name(what)?;
        if self.peek().is_some_and(|t| t.token == Token::Period) {
            return Err(SqlError::at(
                name.at,
                "catalogs and databases are not supported; write the table's name alone",
            ));
        }
        Ok(name)
    }

    fn text(&mut self, what: &str) -> Result<Name, SqlError> {
        match self.peek() {
            Some(TokenWithSpan { token: Token::SingleQuotedString(text), span }) => {
                let text = Name { text: text.clone(), at: span.start };
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.wanted(&format!("{what} in single quotes"))),
        }
    }

    fn skip_statement(&mut self) {
        while let Some(token) = self.peek() {
            let end = token.token == Token::SemiColon;
            self.at += 1;
            if end {
                return;
            }
        }
    }

    fn statement(&mut self) -> Result<Option<Statement>, SqlError> {
        if self.take_keyword("CREATE") {
            return self.create().map(Some);
        }
        if self.take_keyword("INSERT") {
            return self.insert().map(Some);
        }
        if self.take_keyword("SET") {
            let key = self.text("the name of a setting")?;
            self.symbol(&Token::Eq)?;
            let value = self.text("the setting's value")?;
            self.end()?;
            return Ok(Some(Statement::Set { key, value }));
        }
        let at = self.place();
        if self.take_keyword("EXECUTE") {
            self.keywords(&["STATEMENT", "SET", "BEGIN"])?;
            self.take(&Token::SemiColon);
            if self.set_opened_at.replace(at).is_some() {
                return Err(SqlError::at(at, "a statement set cannot stand inside another"));
            }
            return Ok(None);
        }
        if self.is_keyword(0, "BEGIN") && self.is_keyword(1, "STATEMENT") {
            return Err(SqlError::at(at, "expected EXECUTE STATEMENT SET BEGIN, found BEGIN STATEMENT SET"));
        }
        if self.take_keyword("END") {
            if self.set_opened_at.take().is_none() {
                return Err(SqlError::at(at, "END without EXECUTE STATEMENT SET BEGIN"));
            }
            return self.end().map(|()| None);
        }
        let word = self.found().trim_matches('`').to_owned();
        let near = suggestion(&word, ["CREATE", "INSERT", "SET", "EXECUTE"]);
        Err(SqlError::at(at, format!("expected CREATE, INSERT, SET or EXECUTE STATEMENT SET, found `{word}`{near}")))
    }

    /// The end of a statement: a semicolon, or the end of the text.
    fn end(&mut self) -> Result<(), SqlError> {
        if self.peek().is_none() || self.take(&Token::SemiColon) { Ok(()) } else { Err(self.wanted("`;`")) }
    }

    fn create(&mut self) -> Result<Statement, SqlError> {
        let at = self.place();
        if self.take_keyword("TABLE") {
            return self.table().map(Statement::Table);
        }
        let temporary = self.take_keyword("TEMPORARY");
        if self.take_keyword("VIEW") {
            self.if_not_exists()?;
            let name = self.object("the view's name")?;
            let columns = self.names_in_parentheses()?;
            self.keywords(&["AS"])?;
            return Ok(Statement::View { name, columns, query: self.query()? });
        }
        if temporary && self.take_keyword("TABLE") {
            return self.table().map(Statement::Table);
        }
        Err(SqlError::at(at, format!("CREATE {} is not supported; write CREATE TABLE or CREATE VIEW", self.found())))
    }

    fn if_not_exists(&mut self) -> Result<(), SqlError> {
        if self.take_keyword("IF") { self.keywords(&["NOT", "EXISTS"]) } else { Ok(()) }
    }

    fn names_in_parentheses(&mut self) -> Result<Vec<Name>, SqlError> {
        let mut names = Vec::new();
        if self.take(&Token::LParen) {
            loop {
                names.push(self.name("a column's name")?);
                if !self.take(&Token::Comma) {
                    break;
                }
            }
            self.symbol(&Token::RParen)?;
        }
        Ok(names)
    }

    fn table(&mut self) -> Result<TableStatement, SqlError> {
        self.if_not_exists()?;
        let name = self.object("the table's name")?;
        let mut table = TableStatement { name, columns: Vec::new(), key: Vec::new(), options: Vec::new() };
        self.symbol(&Token::LParen)?;
        loop {
            self.table_element(&mut table)?;
            if !self.take(&Token::Comma) {
                break;
            }
        }
        self.symbol(&Token::RParen)?;
        if self.take_keyword("COMMENT") {
            self.text("the comment")?;
        }
        for refused in ["PARTITIONED", "DISTRIBUTED", "LIKE", "AS"] {
            if self.is_keyword(0, refused) {
                return Err(SqlError::at(self.place(), format!("{refused} is not supported; write WITH ( … ) here")));
            }
        }
        self.keywords(&["WITH"])?;
        self.symbol(&Token::LParen)?;
        loop {
            let option = self.text("an option's name")?;
            self.symbol(&Token::Eq)?;
            let value = self.text("the option's value")?;
            if table.options.iter().any(|(known, _)| known.text == option.text) {
                return Err(SqlError::at(option.at, format!("option '{}' is given twice", option.text)));
            }
            table.options.push((option, value));
            if !self.take(&Token::Comma) {
                break;
            }
        }
        self.symbol(&Token::RParen)?;
        self.end()?;
        Ok(table)
    }

    /// A column, a primary key or a watermark.
    fn table_element(&mut self, table: &mut TableStatement) -> Result<(), SqlError> {
        if self.is_keyword(0, "WATERMARK") && self.is_keyword(1, "FOR") {
            self.skip_element();
            return Ok(());
        }
        let at = self.place();
        if self.take_keyword("CONSTRAINT") {
            self.name("the constraint's name")?;
        }
        if self.is_keyword(0, "PRIMARY") && self.is_keyword(1, "KEY") {
            self.at += 2;
            if !table.key.is_empty() {
                return Err(SqlError::at(at, "a second primary key; a table has one"));
            }
            if self.peek().is_none_or(|t| t.token != Token::LParen) {
                return Err(self.wanted("`(` and the columns of the primary key"));
            }
            table.key = self.names_in_parentheses()?;
            return self.not_enforced();
        }
        if self.is_keyword(0, "UNIQUE") {
            return Err(SqlError::at(at, "UNIQUE is not supported; write PRIMARY KEY (…) NOT ENFORCED"));
        }
        self.column(table)
    }

    fn not_enforced(&mut self) -> Result<(), SqlError> {
        if self.take_keyword("NOT") && self.take_keyword("ENFORCED") {
            return Ok(());
        }
        Err(self.wanted("NOT ENFORCED after the primary key"))
    }

    fn column(&mut self, table: &mut TableStatement) -> Result<(), SqlError> {
        let name = self.name("a column's name")?;
        if self.is_keyword(0, "AS") {
            return Err(SqlError::at(
                self.place(),
                format!("computed columns are not supported; compute {} in the SELECT", name.text),
            ));
        }
        let data_type = self.column_type()?;
        let mut column = ColumnStatement { name, data_type, not_null: false };
        loop {
            if self.is_keyword(0, "METADATA") {
                let what = &column.name.text;
                return Err(SqlError::at(
                    self.place(),
                    format!("METADATA columns are not supported yet; remove column {what}"),
                ));
            } else if self.take_keyword("COMMENT") {
                self.text("the comment")?;
            } else if self.is_keyword(0, "NOT") && self.is_keyword(1, "NULL") {
                self.at += 2;
                column.not_null = true;
            } else if self.take_keyword("PRIMARY") {
                self.keywords(&["KEY"])?;
                self.not_enforced()?;
                if !table.key.is_empty() {
                    return Err(SqlError::at(column.name.at, "a second primary key; a table has one"));
                }
                table.key.push(column.name.clone());
            } else if !self.take_keyword("NULL") {
                break;
            }
        }
        table.columns.push(column);
        Ok(())
    }

    /// The words and the parenthesised numbers of a type.
    fn column_type(&mut self) -> Result<DataType, SqlError> {
        let at = self.place();
        let mut text = self.name("a type")?.text;
        if self.peek().is_some_and(|t| t.token == Token::Lt) {
            return Err(SqlError::at(at, format!("{text} columns are not supported; name the fields you need")));
        }
        if self.take(&Token::LParen) {
            text.push('(');
            while let Some(token) = self.peek().map(|t| t.token.to_string()) {
                self.at += 1;
                text.push_str(&token);
                if token == ")" {
                    break;
                }
            }
        }
        for word in ["PRECISION", "VARYING", "WITH", "WITHOUT", "LOCAL", "TIME", "ZONE"] {
            if self.take_keyword(word) {
                text.push(' ');
                text.push_str(word);
            }
        }
        data_type(&text).map_err(|message| SqlError::at(at, message))
    }

    fn skip_element(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen | Token::Comma if depth == 0 => return,
                Token::RParen => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn insert(&mut self) -> Result<Statement, SqlError> {
        if self.is_keyword(0, "OVERWRITE") {
            return Err(SqlError::at(self.place(), "INSERT OVERWRITE is not supported; write INSERT INTO"));
        }
        self.keywords(&["INTO"])?;
        let into = self.object("the sink table's name")?;
        let columns = self.names_in_parentheses()?;
        if self.is_keyword(0, "VALUES") {
            return Err(SqlError::at(self.place(), "INSERT … VALUES is not supported; a sink is filled by a SELECT"));
        }
        Ok(Statement::Insert { into, columns, query: self.query()? })
    }

    fn query(&mut self) -> Result<ast::Query, SqlError> {
        let at = self.place();
        let start = self.at;
        while self.peek().is_some_and(|t| t.token != Token::SemiColon) {
            self.at += 1;
        }
        let mut tokens = self.tokens[start..self.at].to_vec();
        let end = self.place();
        self.end()?;
        if let Some(at) = too_long(&tokens) {
            return Err(SqlError::at(at, format!("an expression of more than {MAX_EXPRESSION_TOKENS} words")));
        }
        tokens.push(TokenWithSpan::at(Token::EOF, end, end));
        let mut parser = Parser::new(&Flink).with_tokens_with_locations(tokens);
        let parsed = parser.parse_query().map_err(|error| of_parser(&error, at))?;
        match parser.peek_token() {
            TokenWithSpan { token: Token::EOF, .. } => Ok(*parsed),
            other => Err(SqlError::of(other.span, format!("expected `;`, found `{}`", other.token))),
        }
    }
}

/// Where more tokens follow each other than an expression may have, with nothing between them that ends one.
fn too_long(tokens: &[TokenWithSpan]) -> Option<Location> {
    let ends = |t: &TokenWithSpan| match &t.token {
        Token::Comma => true,
        Token::Word(word) => {
            ["SELECT", "FROM", "WHERE", "ON", "JOIN"].contains(&word.value.to_ascii_uppercase().as_str())
        }
        _ => false,
    };
    tokens.split(ends).find(|run| run.len() > MAX_EXPRESSION_TOKENS).map(|run| run[0].span.start)
}

/// sqlparser's message ends in its place: ` at Line: 1, Column: 2`.
fn of_parser(error: &sqlparser::parser::ParserError, otherwise: Location) -> SqlError {
    use sqlparser::parser::ParserError as E;
    let message = match error {
        E::TokenizerError(message) | E::ParserError(message) => message.as_str(),
        E::RecursionLimitExceeded => return SqlError::at(otherwise, "the query is nested too deeply"),
    };
    let placed = message.rsplit_once(" at Line: ").and_then(|(said, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some(SqlError::at(
            Location { line: line.parse().ok()?, column: column.parse().ok()? },
            said.replacen("Expected: ", "expected ", 1),
        ))
    });
    placed.unwrap_or_else(|| SqlError::at(otherwise, message.replacen("Expected: ", "expected ", 1)))
}
