/*
 * model_player.hpp: runs steps against the ledger and against the model, and compares
 * them after each.
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

/* Where the two have come apart. */
struct Difference {
    size_t step; /* equal to the number of steps: in the end */
    std::string text;
};

class Player
{
public:
    explicit Player(uint64_t seed);

    /*
     * Plays steps in a scene, on accounts that are new and gone afterwards. A transcript,
     * if wanted, tells each call as SQL, and what the ledger answered.
     */
    std::optional<Difference> play(size_t scene, const std::vector<Step> &steps,
                                   std::string *transcript = nullptr);

    /* How often each function has come to each outcome. */
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
