//! A precedence-climbing evaluator: an expression is computed while it is read.

use cofferdam_tool_sdk::ToolError;
use rust_decimal::Decimal;

/// How deep parentheses, signs and powers nest at most: the guest's stack is small.
const DEPTH_MAX: u32 = 64;

/// The largest exponent either way: each is a multiplication.
const EXPONENT_MAX: i64 = 1000;

/// Computes an expression.
pub(crate) fn eval(text: &str) -> Result<Decimal, ToolError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let value = parser.sum()?;
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.expected("an operator")),
    }
}

/// Divides, or says why not.
pub(crate) fn divide(a: Decimal, b: Decimal) -> Result<Decimal, ToolError> {
    if b.is_zero() {
        return Err(ToolError::new("math.division_by_zero", "divide by zero"));
    }
    a.checked_div(b).ok_or_else(overflow)
}

/// Returns the error of a result that is too large.
pub(crate) fn overflow() -> ToolError {
    ToolError::new("math.overflow", "the result has over 28 digits")
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<Decimal, ToolError> {
        let mut value = self.product()?;
        while let Some(operator) = self.take_if(&['+', '-']) {
            let next = self.product()?;
            let result = if operator == '+' { value.checked_add(next) } else { value.checked_sub(next) };
            value = result.ok_or_else(overflow)?;
        }
        Ok(value)
    }

    fn product(&mut self) -> Result<Decimal, ToolError> {
        let mut value = self.signed()?;
        while let Some(operator) = self.take_if(&['*', '/', '%']) {
            let next = self.signed()?;
            value = match operator {
                '*' => value.checked_mul(next).ok_or_else(overflow)?,
                '/' => divide(value, next)?,
                _ => divide(value, next).and_then(|_| value.checked_rem(next).ok_or_else(overflow))?,
            };
        }
        Ok(value)
    }

    /// The one way down: all nesting passes here, so here it is bounded.
    fn signed(&mut self) -> Result<Decimal, ToolError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ToolError::input(format!("parentheses, signs and powers nest over {DEPTH_MAX} deep")));
        }
        let value = match self.take_if(&['-', '+']) {
            Some('-') => -self.signed()?,
            Some(_) => self.signed()?,
            None => self.power()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn power(&mut self) -> Result<Decimal, ToolError> {
        let base = self.atom()?;
        match self.take_if(&['^']) {
            Some(_) => raise(base, self.signed()?),
            None => Ok(base),
        }
    }

    fn atom(&mut self) -> Result<Decimal, ToolError> {
        if self.take_if(&['(']).is_none() {
            return self.number();
        }
        let value = self.sum()?;
        self.take_if(&[')']).map(|_| value).ok_or_else(|| self.expected("`)`"))
    }

    fn number(&mut self) -> Result<Decimal, ToolError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let value = rest[..end].parse().map_err(|_| self.expected("a number"))?;
        self.at += end;
        Ok(value)
    }

    fn take_if(&mut self, wanted: &[char]) -> Option<char> {
        let found = self.peek().filter(|next| wanted.contains(next))?;
        self.at += found.len_utf8();
        Some(found)
    }

    fn peek(&mut self) -> Option<char> {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> ToolError {
        let place = match self.rest().chars().next() {
            Some(found) => format!("at character {}: `{found}`", self.text[..self.at].chars().count() + 1),
            None => "at the end".to_owned(),
        };
        ToolError::new("math.syntax", format!("expected {what} {place}"))
    }
}

fn raise(base: Decimal, exponent: Decimal) -> Result<Decimal, ToolError> {
    let whole = i64::try_from(exponent).ok().filter(|whole| exponent.is_integer() && whole.abs() <= EXPONENT_MAX);
    let message = || format!("`^` takes a whole exponent from -{EXPONENT_MAX} to {EXPONENT_MAX}");
    let whole = whole.ok_or_else(|| ToolError::input(message()))?;
    let multiply = |power: Decimal, _| power.checked_mul(base).ok_or_else(overflow);
    let power = (0..whole.abs()).try_fold(Decimal::ONE, multiply)?;
    if whole < 0 { divide(Decimal::ONE, power) } else { Ok(power) }
}
