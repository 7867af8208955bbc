//! Entropy of byte values.

/// Shannon entropy of the byte values in `parts`, in bits per byte: 0 for a single
/// repeated value, 8 if all are equally frequent, 0 for empty input.
///
/// No coder with a separate code for each byte stores fewer bits, and one such as
/// Huffman's stores hardly more. The entropy thus bounds the stored size from above, and
/// repetition can only reduce it.
pub(super) fn entropy(parts: &[&[u8]]) -> f64 {
    // Four tables, so that equal neighbors do not depend on each other.
    let mut counts = [[0u32; 256]; 4];
    for part in parts {
        let mut fours = part.chunks_exact(4);
        for four in fours.by_ref() {
            for (table, byte) in counts.iter_mut().zip(four) {
                table[usize::from(*byte)] += 1;
            }
        }
        for byte in fours.remainder() {
            counts[0][usize::from(*byte)] += 1;
        }
    }
    let total: usize = parts.iter().map(|part| part.len()).sum();
    if total == 0 {
        return 0.0;
    }
    let total = total as f64;
    let of_one = (0..256).map(|value| {
        let count: u32 = counts.iter().map(|table| table[value]).sum();
        let count = f64::from(count);
        if count > 0.0 {
            count * count.log2()
        } else {
            0.0
        }
    });
    (total.log2() - of_one.sum::<f64>() / total).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_says_nothing_and_all_values_say_eight_bits() {
        let all: Vec<u8> = (0..=255).cycle().take(4096).collect();
        assert_eq!(entropy(&[&all]), 8.0);
        assert_eq!(entropy(&[&[7; 999]]), 0.0);
        assert_eq!(entropy(&[]), 0.0);
        let two: Vec<u8> = [1, 2].into_iter().cycle().take(1000).collect();
        assert!((entropy(&[&two]) - 1.0).abs() < 1e-9);
        assert!((entropy(&[&two[..333], &two[333..]]) - 1.0).abs() < 1e-9);
    }
}
