/*
 * The ledger and a model of it get the same random calls of every function, in every
 * settlement mode, near the edges of periods. If their answers differ, the test reduces the
 * calls to the fewest that still show the difference.
 *
 * MODEL_STEPS is the number of calls, MODEL_SEED the seed.
 */
#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "environment.hpp"
#include "model_player.hpp"
#include "model_steps.hpp"
#include "shrink.hpp"

namespace usage_ledger::live
{
namespace
{

constexpr size_t steps_per_sequence = 500;

/* The fewest steps that show a difference, each as simple as possible. */
std::vector<Step> shortest_failing(Player &player, size_t scene, std::vector<Step> steps)
{
    const auto fails = [&](const std::vector<Step> &attempt) {
        return player.play(scene, attempt).has_value();
    };
    steps = shrink(steps, fails);

    const auto try_with = [&](size_t i, const Step &simpler) {
        std::vector<Step> attempt = steps;
        attempt[i] = simpler;
        if (fails(attempt)) {
            steps = attempt;
        }
    };
    for (size_t i = 0; i < steps.size(); i++) {
        Step simpler = steps[i];
        simpler.is_undone = false;
        try_with(i, simpler);
        simpler = steps[i];
        simpler.rejects_unknown_accounts = false;
        try_with(i, simpler);
        simpler = steps[i];
        simpler.settlement = Settlement::immediate;
        try_with(i, simpler);
        if (steps[i].function == Function::batch || steps[i].function == Function::record_batch) {
            simpler = steps[i];
            simpler.items = shrink(simpler.items, [&](const std::vector<Item> &items) {
                std::vector<Step> attempt = steps;
                attempt[i].items = items;
                return fails(attempt);
            });
            try_with(i, simpler);
        }
    }
    return steps;
}

std::string description_of(Player &player, size_t scene, const std::vector<Step> &steps)
{
    std::string transcript;
    const std::optional<Difference> difference = player.play(scene, steps, &transcript);
    return std::to_string(steps.size()) + " steps around " + scenes()[scene].focus + ":\n" +
           transcript + (difference ? difference->text : "(these steps no longer fail)");
}

TEST(Model, AgreesWithTheLedgerOnRandomCalls)
{
    const uint64_t step_count = number_from_environment("MODEL_STEPS", 100000),
                   seed = number_from_environment("MODEL_SEED", 20261124);
    std::cout << "MODEL_SEED=" << seed << " MODEL_STEPS=" << step_count << std::endl;
    Player player(seed);
    std::mt19937_64 random(seed);

    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    Clock::time_point shown = start;
    for (uint64_t done = 0; done < step_count;) {
        const size_t count = std::min<size_t>(steps_per_sequence, step_count - done);
        const size_t scene = random() % scenes().size();
        const std::vector<Step> steps = random_steps(random, count);
        const std::optional<Difference> difference = player.play(scene, steps);
        if (difference) {
            std::vector<Step> failing(
                steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(
                                                   std::min(difference->step + 1, steps.size())));
            FAIL() << "MODEL_SEED=" << seed << ", step " << done + difference->step << ": "
                   << difference->text << "\nShortest, "
                   << description_of(player, scene, shortest_failing(player, scene, failing));
        }
        done += count;
        if (Clock::now() - shown >= std::chrono::seconds(10)) {
            shown = Clock::now();
            const std::chrono::duration<double> elapsed = shown - start;
            std::cout << done << " steps, "
                      << static_cast<int>(static_cast<double>(done) / elapsed.count())
                      << " a second" << std::endl;
        }
    }

    /* An outcome that did not happen was not compared. */
    for (const auto &[outcome, count] : player.outcome_counts()) {
        std::cout << "  " << count << " " << outcome << std::endl;
    }
    constexpr uint64_t steps_for_everything = 100000;
    if (step_count < steps_for_everything) {
        return;
    }
    for (const char *outcome : {"increment_usage applied",
                                "increment_usage queued",
                                "increment_usage replayed",
                                "increment_usage UL001",
                                "increment_usage UL002",
                                "increment_usage UL003",
                                "increment_usage UL005",
                                "increment_usage 22003",
                                "increment_usage 22004",
                                "increment_usage 22023",
                                "record_usage applied",
                                "record_usage queued",
                                "record_usage replayed",
                                "record_usage UL001",
                                "record_usage UL002",
                                "record_usage UL003",
                                "record_usage UL005",
                                "record_usage 22004",
                                "record_usage 22023",
                                "item applied",
                                "item queued",
                                "item replayed",
                                "item conflict",
                                "item unknown_account",
                                "item closed",
                                "item out_of_time",
                                "item invalid",
                                "void_usage voided",
                                "void_usage replayed",
                                "void_usage UL003",
                                "void_usage UL004",
                                "void_usage 22004",
                                "void_usage 22023",
                                "credit_usage applied",
                                "credit_usage replayed",
                                "credit_usage UL001",
                                "credit_usage UL002",
                                "credit_usage UL003",
                                "credit_usage 22004",
                                "credit_usage 22023",
                                "reserve_usage reserved",
                                "reserve_usage limit_reached",
                                "reserve_usage limit_reached by a scope",
                                "reserve_usage replayed",
                                "reserve_usage unlimited",
                                "reserve_usage UL002",
                                "reserve_usage UL003",
                                "reserve_usage 22004",
                                "reserve_usage 22023",
                                "spend_usage applied",
                                "spend_usage queued",
                                "spend_usage replayed",
                                "spend_usage limit_reached",
                                "spend_usage limit_reached by a scope",
                                "spend_usage UL001",
                                "spend_usage UL003",
                                "release_usage released",
                                "release_usage replayed",
                                "set_usage_limit",
                                "set_usage_limit 22023",
                                "balance",
                                "end_usage_period",
                                "end_usage_period UL002",
                                "end_usage_period 22023",
                                "close_usage_period",
                                "close_usage_period UL002",
                                "close_usage_period 22003",
                                "open_usage_period",
                                "open_usage_period UL001",
                                "open_usage_period 22023",
                                "open_usage_period 23P01",
                                "set_usage_cycle",
                                "settle_usage",
                                "prune_usage_events",
                                "erase_usage",
                                "current_usage"}) {
        EXPECT_GT(player.outcome_counts().count(outcome), 0U) << outcome;
    }
}

} // namespace
} // namespace usage_ledger::live
