//! Splitting of items into groups of limited size.

/// Splits items into groups of at most `max_items` items and `max_bytes` bytes. A larger
/// item is a group of one.
pub(super) fn split_by_size<T>(
    items: &[T],
    max_items: usize,
    max_bytes: usize,
    size: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(max_items).take_while(|item| {
            bytes += size(item);
            bytes <= max_bytes
        });
        let (group, later) = rest.split_at_checked(fits.count().max(1))?;
        rest = later;
        Some(group)
    })
}
