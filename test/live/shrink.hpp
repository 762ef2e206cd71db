/*
 * shrink.hpp: shortens a failing sequence to a part that still fails.
 */
#pragma once

#include <algorithm>
#include <vector>

namespace usage_ledger::live
{

/*
 * Removes chunks, smaller and smaller down to single elements, while the rest still fails.
 * REQUIRES: the given sequence fails.
 */
template <typename Element, typename Fails>
std::vector<Element> shrink(std::vector<Element> sequence, Fails fails)
{
    bool is_shrinking = true;
    while (is_shrinking) {
        is_shrinking = false;
        for (size_t size = std::max<size_t>(sequence.size() / 2, 1); size > 0; size /= 2) {
            for (size_t start = 0; start < sequence.size();) {
                const auto first = sequence.begin() + static_cast<std::ptrdiff_t>(start);
                const auto last = sequence.begin() + static_cast<std::ptrdiff_t>(
                                                         std::min(start + size, sequence.size()));
                std::vector<Element> rest(sequence.begin(), first);
                rest.insert(rest.end(), last, sequence.end());
                if (fails(rest)) {
                    sequence = rest;
                    is_shrinking = true;
                } else {
                    start += size;
                }
            }
        }
    }
    return sequence;
}

} // namespace usage_ledger::live
