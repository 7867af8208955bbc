//! Encoding of a quilt.

use serde::Serialize;

use super::layout::{
    HAS_TAGS, INDEX_COLUMNS, INDEX_HEADER_LEN, IndexEntry, MAX_MEMBERS, MEMBER_HEADER_LEN, Member,
    Patch, QuiltError, VERSION, is_identifier, symbol_offset,
};
use crate::blob_id::{COLUMNS, MAX_SYMBOL_LEN, ROWS};

/// Encodes files as a quilt; returns its blob and the location of each file.
///
/// # Errors
/// When the files cannot form a quilt; see [`QuiltError`].
pub fn encode(mut members: Vec<Member>) -> Result<(Vec<u8>, Vec<Patch>), QuiltError> {
    if members.is_empty() {
        return Err(QuiltError::Empty);
    }
    if members.len() > MAX_MEMBERS {
        return Err(QuiltError::TooMany(members.len()));
    }
    members.sort_by(|a, b| a.identifier.cmp(&b.identifier));
    if let Some(pair) = members
        .windows(2)
        .find(|pair| pair[0].identifier == pair[1].identifier)
    {
        return Err(QuiltError::Duplicate(pair[0].identifier.clone()));
    }
    let heads = members.iter().map(head).collect::<Result<Vec<_>, _>>()?;
    let mut index: Vec<IndexEntry> = (members.iter())
        .map(|member| IndexEntry {
            end: 0,
            identifier: member.identifier.clone(),
            tags: member.tags.clone(),
        })
        .collect();
    // An end column always takes two bytes, so the length is already known.
    let index_len = (INDEX_HEADER_LEN + bcs(&index)?.len()) as u64;
    let sizes: Vec<u64> = std::iter::once(index_len)
        .chain(
            heads
                .iter()
                .zip(&members)
                .map(|(head, member)| (head.len() + member.content.len()) as u64),
        )
        .collect();
    let symbol = symbol_size(&sizes)?;
    let mut matrix = vec![0; symbol as usize * ROWS * COLUMNS];
    let columns = |bytes: u64| bytes.div_ceil(symbol * ROWS as u64) as u16;
    let mut patches = Vec::with_capacity(members.len());
    let mut start = columns(index_len);
    for (number, (head, member)) in heads.iter().zip(members).enumerate() {
        let end = start + columns(sizes[number + 1]);
        write(&mut matrix, symbol as usize, start, [head, &member.content]);
        index[number].end = end;
        patches.push(Patch {
            identifier: member.identifier,
            tags: member.tags,
            start,
            end,
        });
        start = end;
    }
    let entries = bcs(&index)?;
    let mut head = vec![VERSION];
    head.extend((entries.len() as u32).to_le_bytes());
    write(&mut matrix, symbol as usize, 0, [&head, &entries]);
    Ok((matrix, patches))
}

/// Returns the length of the blob that [`encode`] makes of files without tags, each given
/// by the lengths of its identifier and its content.
///
/// # Errors
/// When the files cannot form a quilt; see [`QuiltError`].
pub fn blob_len(members: &[(u64, u64)]) -> Result<u64, QuiltError> {
    if members.is_empty() {
        return Err(QuiltError::Empty);
    }
    if members.len() > MAX_MEMBERS {
        return Err(QuiltError::TooMany(members.len()));
    }
    // Lists and strings in BCS begin with their length, seven bits per byte.
    let prefixed = |len: u64| len + u64::from((64 - (len | 1).leading_zeros()).div_ceil(7));
    // End column, identifier, no tags.
    let entries = members.iter().map(|(name, _)| 2 + prefixed(*name) + 1);
    let index = prefixed(members.len() as u64) - members.len() as u64 + entries.sum::<u64>();
    let heads = members.iter().map(|(name, content)| {
        (MEMBER_HEADER_LEN as u64 + 2 + prefixed(*name)).saturating_add(*content)
    });
    let sizes: Vec<u64> = std::iter::once(INDEX_HEADER_LEN as u64 + index)
        .chain(heads)
        .collect();
    Ok(symbol_size(&sizes)? * (ROWS * COLUMNS) as u64)
}

fn bcs(value: &impl Serialize) -> Result<Vec<u8>, QuiltError> {
    bcs::to_bytes(value).map_err(|_| QuiltError::TooLarge("the index"))
}

/// Encodes the bytes before a member's content.
fn head(member: &Member) -> Result<Vec<u8>, QuiltError> {
    let identifier = &member.identifier;
    let unfit = || QuiltError::Identifier(identifier.chars().take(64).collect());
    if !is_identifier(identifier) {
        return Err(unfit());
    }
    let mut fields = Vec::new();
    let encoded = bcs(identifier)?;
    fields.extend(
        u16::try_from(encoded.len())
            .map_err(|_| unfit())?
            .to_le_bytes(),
    );
    fields.extend(encoded);
    let mut mask = 0;
    if !member.tags.is_empty() {
        mask |= HAS_TAGS;
        let encoded = bcs(&member.tags)?;
        let len = u16::try_from(encoded.len());
        fields.extend(
            len.map_err(|_| QuiltError::TooLarge("a file's tags"))?
                .to_le_bytes(),
        );
        fields.extend(encoded);
    }
    let len = u32::try_from(fields.len() + member.content.len());
    let mut head = vec![VERSION];
    head.extend(
        len.map_err(|_| QuiltError::TooLarge("a file"))?
            .to_le_bytes(),
    );
    head.push(mask);
    head.extend(fields);
    Ok(head)
}

/// Returns the smallest even symbol size with which pieces of these sizes, the index
/// first, fit into the columns.
fn symbol_size(sizes: &[u64]) -> Result<u64, QuiltError> {
    let rows = ROWS as u64;
    let fits = |symbol: u64| {
        let columns = sizes.iter().map(|size| size.div_ceil(symbol * rows));
        columns.sum::<u64>() <= COLUMNS as u64
    };
    let index = sizes.first().copied().unwrap_or_default();
    let mut low = index.div_ceil(rows * INDEX_COLUMNS).max(1);
    let mut high = MAX_SYMBOL_LEN + 1;
    while low < high {
        let middle = low.midpoint(high);
        if fits(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    match low.next_multiple_of(2) {
        symbol if symbol > MAX_SYMBOL_LEN => Err(QuiltError::TooLarge("the whole")),
        symbol => Ok(symbol),
    }
}

/// Writes a piece into its columns.
fn write(matrix: &mut [u8], symbol: usize, column: u16, parts: [&[u8]; 2]) {
    let mut at = 0;
    for mut part in parts {
        while !part.is_empty() {
            let (cell, within) = (at / symbol, at % symbol);
            let start = symbol_offset(column.into(), cell, symbol) + within;
            let (now, later) = part.split_at(part.len().min(symbol - within));
            matrix[start..start + now.len()].copy_from_slice(now);
            (at, part) = (at + now.len(), later);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_length_of_a_quilt_is_known_before_it_is_made(
            files in proptest::collection::vec((1usize..200, 0usize..20_000), 1..80),
        ) {
            let member = |(n, &(name, len)): (usize, &(usize, usize))| Member {
                identifier: format!("{n:04}{}", "x".repeat(name)),
                tags: Default::default(),
                content: Bytes::from(vec![7; len]),
            };
            let lens: Vec<_> = files.iter().map(|&(name, len)| (name as u64 + 4, len as u64)).collect();
            let members = files.iter().enumerate().map(member).collect();
            let (blob, _) = encode(members).unwrap();
            prop_assert_eq!(blob_len(&lens).unwrap(), blob.len() as u64);
        }
    }
}
