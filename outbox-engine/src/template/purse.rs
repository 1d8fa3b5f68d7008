//! What rendering a message may cost in bytes. A template is the operator's, but what it is given
//! is not: a payload must not be able to make the process run out of memory.
//!
//! Fuel bounds the number of steps, not what one of them makes: `indent(payload.n)` is one. So
//! the filters that can make much out of little say beforehand how much it will be. A string
//! or list that `*` repeats is bounded by minijinja itself, at 100 million bytes or elements.

use minijinja::filters;
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, Output, State, escape_formatter};
use std::fmt::{self, Write};
use std::io;

/// The most bytes that the rendered fields of a message may come to, and the most that may be
/// made on the way to one of them.
pub(super) const MOST: usize = 16 << 20;

/// What an element of a list takes.
const ELEMENT: usize = size_of::<Value>();

/// A template that would take more than it may.
#[derive(Debug, thiserror::Error)]
#[error("it comes to more than {} MiB", MOST >> 20)]
pub(super) struct TooMuch;

/// Bytes that are left for one field.
struct Purse(usize);

/// Makes every filter that can make much, and all that is printed, pay for it.
pub(super) fn fit(environment: &mut Environment<'_>) {
    environment.set_formatter(print);
    macro_rules! paying {
        ($($filter:ident $price:expr),* $(,)?) => {
            $(environment.add_filter(stringify!($filter), paying(filters::$filter, $price));)*
        };
    }
    paying! {
        indent indented, format formatted, replace replaced, join joined, tojson as_json,
        batch listed, chain listed, dictsort listed, groupby listed, items listed, list listed,
        map listed, reject listed, rejectattr listed, reverse listed, select listed,
        selectattr listed, slice listed, sort listed, unique listed, zip listed,
    }
}

/// `filter`, at a price that its arguments tell.
fn paying<F, Rv, Args>(
    filter: F,
    price: fn(&[Value]) -> usize,
) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<Value, Error>
where
    F: minijinja::functions::Function<Rv, Args>,
    Rv: minijinja::value::FunctionResult,
    Args: for<'a> minijinja::value::FunctionArgs<'a>,
{
    let filter = Value::from_function(filter);
    move |state, arguments| {
        let arguments = arguments.into_values();
        pay(state, price(&arguments))?;
        filter.call(state, &arguments)
    }
}

fn pay(state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let purse = state.get_or_insert_extension(Purse(MOST));
    match purse.0.checked_sub(bytes) {
        Some(left) => {
            purse.0 = left;
            Ok(())
        }
        None => Err(Error::new(ErrorKind::InvalidOperation, "too much").with_source(TooMuch)),
    }
}

/// Also what is printed into a variable.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Number | ValueKind::Bool | ValueKind::None | ValueKind::Undefined => {}
        _ => pay(state, Size::of(value).bytes)?,
    }
    escape_formatter(out, state, value)
}

fn indented(arguments: &[Value]) -> usize {
    let size = arguments.first().map(Size::of).unwrap_or_default();
    let widest = numbers(arguments).max().unwrap_or_default();
    size.lines
        .saturating_mul(widest)
        .saturating_add(widest)
        .saturating_add(size.bytes)
}

fn formatted(arguments: &[Value]) -> usize {
    let [pattern, values @ ..] = arguments else {
        return 0;
    };
    let widths = pattern.as_str().map(widths).unwrap_or_default();
    let values = values.iter().map(|value| Size::of(value).bytes);
    sum(values.chain([widths, Size::of(pattern).bytes]))
}

/// All widths and precisions of a pattern such as `%05.2f`.
fn widths(pattern: &str) -> usize {
    let directives = pattern.split('%').skip(1);
    sum(directives.map(|directive| {
        let end = directive.find(|c: char| c.is_ascii_alphabetic());
        let options = directive.get(..end.unwrap_or(directive.len()));
        let options = options.unwrap_or_default();
        if options.contains('*') {
            // One that an argument gives can be anything.
            return usize::MAX;
        }
        let numbers = options.split(|c: char| !c.is_ascii_digit());
        let number = |digits: &str| digits.parse().unwrap_or(usize::MAX);
        sum(numbers.filter(|digits| !digits.is_empty()).map(number))
    }))
}

fn replaced(arguments: &[Value]) -> usize {
    let [text, from, to, ..] = arguments else {
        return 0;
    };
    let from = from.to_string();
    // Counted without overlap, as it is replaced.
    let times = text.to_string().matches(&from).count();
    Size::of(to)
        .bytes
        .saturating_mul(times)
        .saturating_add(Size::of(text).bytes)
}

fn joined(arguments: &[Value]) -> usize {
    let [list, rest @ ..] = arguments else {
        return 0;
    };
    let joiner = sum(rest.iter().map(|value| Size::of(value).bytes));
    let joiners = list.len().unwrap_or_default().saturating_mul(joiner);
    joiners.saturating_add(Size::of(list).bytes)
}

fn as_json(arguments: &[Value]) -> usize {
    let size = arguments.first().map(Size::of).unwrap_or_default();
    let indent = numbers(arguments).max().unwrap_or(2);
    let margin = size.depth.saturating_mul(indent);
    size.bytes.saturating_mul(margin.saturating_add(1))
}

/// What makes a list of its own, as long as its arguments, or as a number that it is given.
fn listed(arguments: &[Value]) -> usize {
    let lengths = arguments.iter().filter_map(Value::len);
    sum(lengths.chain(numbers(arguments))).saturating_mul(ELEMENT)
}

fn sum(numbers: impl Iterator<Item = usize>) -> usize {
    numbers.fold(0, usize::saturating_add)
}

/// The numbers among the arguments after the first, with a name or without.
fn numbers(arguments: &[Value]) -> impl Iterator<Item = usize> + '_ {
    arguments.iter().skip(1).flat_map(|argument| {
        let named = argument
            .is_kwargs()
            .then(|| argument.try_iter().ok())
            .flatten();
        let named = named.into_iter().flatten();
        let named = named.filter_map(|name| argument.get_item(&name).ok()?.as_usize());
        argument.as_usize().into_iter().chain(named)
    })
}

/// How large a value is when it is printed; no further than [`MOST`].
#[derive(Default)]
struct Size {
    bytes: usize,
    lines: usize,
    /// Of brackets within brackets.
    depth: usize,
    open: usize,
}

impl Size {
    fn of(value: &Value) -> Self {
        let mut size = Self::default();
        if let Some(text) = value.as_str() {
            size.bytes = text.len();
            size.lines = text.matches('\n').count();
        } else if value.len().is_some_and(|elements| elements > MOST)
            // Not told by the writing alone: a list goes on to its end all the same.
            || write!(size, "{value}").is_err()
        {
            size.bytes = usize::MAX;
        }
        size
    }
}

impl Write for Size {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes += text.len();
        for byte in text.bytes() {
            match byte {
                b'\n' => self.lines += 1,
                b'[' | b'{' | b'(' => self.open += 1,
                b']' | b'}' | b')' => self.open = self.open.saturating_sub(1),
                _ => {}
            }
            self.depth = self.depth.max(self.open);
        }
        if self.bytes > MOST {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Takes what is rendered, as long as there is room.
pub(super) struct Page<'a> {
    pub(super) text: Vec<u8>,
    /// Of all fields.
    pub(super) room: &'a mut usize,
}

impl io::Write for Page<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(room) = self.room.checked_sub(bytes.len()) else {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, TooMuch));
        };
        *self.room = room;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
