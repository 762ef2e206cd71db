/*
 * expect.hpp: what a fuzz target says when an invariant is broken.
 */
#pragma once

#include <cstdio>
#include <cstdlib>

/* Stops the fuzzer, which then keeps the input that led here. */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);           \
            std::abort();                                                                          \
        }                                                                                          \
    } while (false)
