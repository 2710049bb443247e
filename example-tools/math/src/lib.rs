//! `math`: exact decimal arithmetic, so that a model need not compute in its head. Numbers travel as text: a float would
//! round them before the tool sees them.

mod parser;

use cofferdam_tool_sdk::prelude::*;

/// Computes with exact decimals.
#[tools]
mod math {
    use rust_decimal::{Decimal, RoundingStrategy};

    use crate::parser;

    /// Digits after the point of a percentage.
    const PERCENT_DIGITS: u32 = 4;

    /// Computes an expression, like `(1.10 + 2.20) * 3 ^ 2`.
    #[tool(effect = "pure")]
    pub fn eval(
        /// Numbers, `+ - * / % ^` and parentheses. `^` takes a whole exponent.
        expression: String,
    ) -> Result<String, ToolError> {
        parser::eval(&expression).map(text)
    }

    /// Adds numbers exactly.
    #[tool(effect = "pure")]
    pub fn sum(
        /// Decimal numbers, like `19.99`.
        numbers: Vec<String>,
    ) -> Result<String, ToolError> {
        let add = |sum: Decimal, number: &String| sum.checked_add(read(number)?).ok_or_else(parser::overflow);
        numbers.iter().try_fold(Decimal::ZERO, add).map(text)
    }

    /// Tells by how many percent a number grew (or shrank, below zero), to four digits.
    #[tool(effect = "pure")]
    pub fn percent_change(
        /// The number before; not 0.
        before: String,
        /// The number after.
        after: String,
    ) -> Result<String, ToolError> {
        let (before, after) = (read(&before)?, read(&after)?);
        let change = after.checked_sub(before).and_then(|change| change.checked_mul(Decimal::ONE_HUNDRED));
        let percent = parser::divide(change.ok_or_else(parser::overflow)?, before.abs())?;
        Ok(text(percent.round_dp_with_strategy(PERCENT_DIGITS, RoundingStrategy::MidpointAwayFromZero)))
    }

    /// Rounds a number half away from zero, and shows exactly that many digits after the point.
    #[tool(effect = "pure")]
    pub fn round(
        /// The number to round.
        number: String,
        /// Digits after the point: 0 to 28.
        digits: u32,
    ) -> Result<String, ToolError> {
        let digits = digits.min(Decimal::MAX_SCALE);
        let rounded = read(&number)?.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
        Ok(format!("{rounded:.*}", digits as usize))
    }

    fn read(number: &str) -> Result<Decimal, ToolError> {
        number.trim().parse().map_err(|_| ToolError::input(format!("`{number}` is no decimal number")))
    }

    fn text(number: Decimal) -> String {
        number.normalize().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::math::*;

    fn check(expression: &str, expected: &str) {
        let found = eval(expression.to_owned()).unwrap_or_else(|error| error.message);
        assert_eq!(found, expected, "{expression}");
    }

    #[test]
    fn expressions_follow_the_rules_of_school() {
        check("0.1 + 0.2", "0.3");
        check("2 + 3 * 4", "14");
        check("(2 + 3) * -4", "-20");
        check("-2 ^ 2", "-4");
        check("2 ^ 3 ^ 2", "512");
        check("2 ^ -2", "0.25");
        check("17 % 5 - 10 / 4", "-0.5");
        check("1 - 2 - 3", "-4");
    }

    #[test]
    fn mistakes_tell_where_they_are() {
        check("1 +", "expected a number at the end");
        check("2 * (3", "expected `)` at the end");
        check("2 a", "expected an operator at character 3: `a`");
        check("1 / (2 - 2)", "divide by zero");
        check("9 ^ 99", "the result has over 28 digits");
        check("2 ^ 0.5", "`^` takes a whole exponent from -1000 to 1000");
        check(&"(".repeat(100), "parentheses, signs and powers nest over 64 deep");
    }

    #[test]
    fn sums_percentages_and_rounding_are_exact() {
        let numbers = ["0.1", "0.2", "-0.3", "19.99"].map(str::to_owned).to_vec();
        assert_eq!(sum(numbers).unwrap(), "19.99");
        assert_eq!(percent_change("80".to_owned(), "100".to_owned()).unwrap(), "25");
        assert_eq!(percent_change("-3".to_owned(), "-4".to_owned()).unwrap(), "-33.3333");
        assert_eq!(percent_change("0".to_owned(), "1".to_owned()).unwrap_err().code, "math.division_by_zero");
        assert_eq!(round("2.345".to_owned(), 2).unwrap(), "2.35");
        assert_eq!(round("2".to_owned(), 2).unwrap(), "2.00");
        assert_eq!(sum(vec!["1,5".to_owned()]).unwrap_err().message, "`1,5` is no decimal number");
    }
}
