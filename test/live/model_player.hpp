/*
 * model_player.hpp: runs each step on the ledger and on the model, and compares the two.
 */
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "connection.hpp"
#include "model.hpp"
#include "model_steps.hpp"
#include "pipeline.hpp"

namespace usage_ledger::live
{

/* A difference between the ledger and the model. */
struct Difference {
    size_t step; /* the number of steps: found at the end */
    std::string text;
};

class Player
{
public:
    explicit Player(uint64_t seed);

    /*
     * Plays steps in a scene, on new accounts that are removed afterwards. The transcript, if
     * not null, gets each call as SQL and the ledger's answer.
     */
    std::optional<Difference> play(size_t scene, const std::vector<Step> &steps,
                                   std::string *transcript = nullptr);

    /* Counts by function and outcome. */
    const std::map<std::string, int> &outcome_counts() const
    {
        return outcome_counts_;
    }

private:
    class Game;

    void prepare(const char *name, const std::string &sql);
    Cycle cycle_of_server(const Scene &scene, const Length &length, const Value &anchor,
                          const std::string &time_zone);

    Connection connection_;
    std::map<std::string, std::string> statements_; /* SQL by name */
    std::map<std::string, int> outcome_counts_;
    const uint64_t seed_;
    unsigned game_count_ = 0;
};

} // namespace usage_ledger::live
