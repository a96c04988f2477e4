//! Names and types of the functions.

use crate::types::DataType;

/// A function or operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `a = b`; the two are [comparable](DataType::comparable_with), as for the five that follow.
    Equal,
    /// `a <> b`.
    NotEqual,
    /// `a < b`; strings by their UTF-8 bytes.
    Less,
    /// `a <= b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterOrEqual,
    /// `a AND b`: FALSE where either is FALSE, even if the other is NULL.
    And,
    /// `a OR b`: TRUE where either is TRUE, even if the other is NULL.
    Or,
    /// `NOT a`.
    Not,
    /// `a IS NULL`: never NULL.
    IsNull,
    /// `a IS NOT NULL`: never NULL.
    IsNotNull,
    /// `a + b`, both of one type, integer or floating.
    Add,
    /// `a - b`.
    Subtract,
    /// `a * b`.
    Multiply,
    /// `-a`.
    Negate,
    /// `ABS(a)`: the least integer of a type stays as it is.
    Abs,
    /// `CONCAT(a, …)` and `a || b`: NULL where any argument is NULL.
    Concat,
    /// `UPPER(a)`, by Unicode.
    Upper,
    /// `LOWER(a)`, by Unicode.
    Lower,
    /// `TRIM(a)`: without the spaces (U+0020) at both ends.
    Trim,
    /// `CHAR_LENGTH(a)`: in Unicode code points.
    CharLength,
    /// `SUBSTRING(a, start[, length])`: from code point `start`, counted from 1 and literal, to the end or `length` code points.
    Substring,
    /// `COALESCE(a, …)`: the first that is not NULL.
    Coalesce,
    /// `NULLIF(a, b)`: NULL where a equals b, else a.
    NullIf,
    /// `CASE WHEN c1 THEN v1 … ELSE e END`: arguments c1, v1, …, e.
    Case,
    /// `EXTRACT(YEAR FROM a)`, `YEAR(a)`, in UTC; BIGINT, as for the five that follow.
    Year,
    /// `EXTRACT(MONTH FROM a)`, `MONTH(a)`: 1 to 12.
    Month,
    /// `EXTRACT(DAY FROM a)`, `DAYOFMONTH(a)`: 1 to 31.
    Day,
    /// `EXTRACT(HOUR FROM a)`, `HOUR(a)`: 0 to 23.
    Hour,
    /// `EXTRACT(MINUTE FROM a)`, `MINUTE(a)`: 0 to 59.
    Minute,
    /// `EXTRACT(SECOND FROM a)`, `SECOND(a)`: 0 to 59.
    Second,
}

/// Why a function cannot be called with the given arguments, as the end of a sentence that begins with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuitable(pub String);

impl Function {
    /// Every function, for tests that must not forget one.
    pub const ALL: [Self; 31] = [
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::And,
        Self::Or,
        Self::Not,
        Self::IsNull,
        Self::IsNotNull,
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Negate,
        Self::Abs,
        Self::Concat,
        Self::Upper,
        Self::Lower,
        Self::Trim,
        Self::CharLength,
        Self::Substring,
        Self::Coalesce,
        Self::NullIf,
        Self::Case,
        Self::Year,
        Self::Month,
        Self::Day,
        Self::Hour,
        Self::Minute,
        Self::Second,
    ];

    /// The function that is called by this name with parentheses, if there is one.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "ABS" => Self::Abs,
            "CONCAT" => Self::Concat,
            "UPPER" => Self::Upper,
            "LOWER" => Self::Lower,
            "TRIM" => Self::Trim,
            "CHAR_LENGTH" | "CHARACTER_LENGTH" => Self::CharLength,
            "SUBSTRING" | "SUBSTR" => Self::Substring,
            "COALESCE" | "IFNULL" => Self::Coalesce,
            "NULLIF" => Self::NullIf,
            "YEAR" => Self::Year,
            "MONTH" => Self::Month,
            "DAYOFMONTH" => Self::Day,
            "HOUR" => Self::Hour,
            "MINUTE" => Self::Minute,
            "SECOND" => Self::Second,
            _ => return None,
        })
    }

    /// The names that [`Self::by_name`] knows, for suggestions.
    pub const NAMES: [&'static str; 15] = [
        "ABS",
        "CONCAT",
        "UPPER",
        "LOWER",
        "TRIM",
        "CHAR_LENGTH",
        "SUBSTRING",
        "COALESCE",
        "NULLIF",
        "YEAR",
        "MONTH",
        "DAYOFMONTH",
        "HOUR",
        "MINUTE",
        "SECOND",
    ];

    /// The type of the result for arguments of these types.
    ///
    /// # Errors
    /// Where the number or the types of the arguments do not fit.
    pub fn result_type(self, arguments: &[DataType]) -> Result<DataType, Unsuitable> {
        use Function as F;
        match self {
            F::Equal | F::NotEqual | F::Less | F::LessOrEqual | F::Greater | F::GreaterOrEqual => {
                let [a, b] = exactly(arguments)?;
                if a.comparable_with(b) { Ok(DataType::Boolean) } else { Err(differ(a, b)) }
            }
            F::And | F::Or => all(arguments, 2, DataType::Boolean).map(|()| DataType::Boolean),
            F::Not => all(arguments, 1, DataType::Boolean).map(|()| DataType::Boolean),
            F::IsNull | F::IsNotNull => exactly::<1>(arguments).map(|_| DataType::Boolean),
            F::Add | F::Subtract | F::Multiply => {
                let [a, b] = exactly(arguments)?;
                if a == b { number(a) } else { Err(differ(a, b)) }
            }
            F::Negate | F::Abs => exactly::<1>(arguments).and_then(|[a]| number(a)),
            F::Concat if arguments.is_empty() => Err(Unsuitable("needs at least one argument".into())),
            F::Concat => all(arguments, arguments.len(), DataType::String).map(|()| DataType::String),
            F::Upper | F::Lower | F::Trim => all(arguments, 1, DataType::String).map(|()| DataType::String),
            F::CharLength => all(arguments, 1, DataType::String).map(|()| DataType::Int),
            F::Substring => substring(arguments),
            F::Coalesce => same(arguments),
            F::NullIf => exactly::<2>(arguments).and_then(|_| same(arguments)),
            F::Case => case(arguments),
            F::Year | F::Month | F::Day | F::Hour | F::Minute | F::Second => {
                exactly::<1>(arguments).and_then(|[a]| self.part_of(a))
            }
        }
    }

    fn part_of(self, argument: DataType) -> Result<DataType, Unsuitable> {
        let of_a_day = matches!(self, Self::Hour | Self::Minute | Self::Second);
        if argument.is_timestamp() || (argument == DataType::Date && !of_a_day) {
            return Ok(DataType::BigInt);
        }
        let wanted = if of_a_day { "a TIMESTAMP" } else { "a TIMESTAMP or a DATE" };
        Err(Unsuitable(format!("takes {wanted}, not {argument}")))
    }
}

fn exactly<const N: usize>(arguments: &[DataType]) -> Result<[DataType; N], Unsuitable> {
    arguments.try_into().map_err(|_| Unsuitable(format!("takes {N} arguments, not {}", arguments.len())))
}

fn differ(a: DataType, b: DataType) -> Unsuitable {
    Unsuitable(format!("takes two values of one type, not {a} and {b}; convert one with CAST"))
}

fn all(arguments: &[DataType], count: usize, wanted: DataType) -> Result<(), Unsuitable> {
    if arguments.len() != count {
        return Err(Unsuitable(format!("takes {count} arguments, not {}", arguments.len())));
    }
    match arguments.iter().find(|a| **a != wanted) {
        Some(other) => Err(Unsuitable(format!("takes {wanted}, not {other}"))),
        None => Ok(()),
    }
}

fn number(a: DataType) -> Result<DataType, Unsuitable> {
    if a.is_integer() || a.is_floating() {
        return Ok(a);
    }
    Err(Unsuitable(format!("takes integers, FLOAT or DOUBLE, not {a}")))
}

fn substring(arguments: &[DataType]) -> Result<DataType, Unsuitable> {
    match arguments {
        [DataType::String, start] | [DataType::String, start, DataType::Int] if *start == DataType::Int => {
            Ok(DataType::String)
        }
        _ => Err(Unsuitable("takes a STRING, a start and, if wanted, a length as integer literals".into())),
    }
}

fn same(arguments: &[DataType]) -> Result<DataType, Unsuitable> {
    let Some((first, rest)) = arguments.split_first() else {
        return Err(Unsuitable("needs at least one argument".into()));
    };
    match rest.iter().find(|a| *a != first) {
        Some(other) => Err(differ(*first, *other)),
        None => Ok(*first),
    }
}

fn case(arguments: &[DataType]) -> Result<DataType, Unsuitable> {
    if arguments.len() < 3 || arguments.len().is_multiple_of(2) {
        return Err(Unsuitable("needs WHEN … THEN … pairs and an ELSE".into()));
    }
    let (branches, otherwise) = arguments.split_at(arguments.len() - 1);
    let mut values = otherwise.to_vec();
    for branch in branches.chunks_exact(2) {
        all(&branch[..1], 1, DataType::Boolean)?;
        values.push(branch[1]);
    }
    same(&values)
}
