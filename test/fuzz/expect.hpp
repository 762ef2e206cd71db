/*
 * expect.hpp: the assertion of the fuzz targets.
 */
#pragma once

#include <cstdio>
#include <cstdlib>

/* Aborts when the condition is false. The fuzzer then saves the input that caused it. */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);           \
            std::abort();                                                                          \
        }                                                                                          \
    } while (false)
