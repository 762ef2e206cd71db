/*
 * proxy.hpp: a loopback proxy in front of the tests' server. It cuts one connection
 * between two messages of the protocol.
 */
#pragma once

#include <string>
#include <thread>

namespace usage_ledger::live
{

/* Where to cut: after message_count whole messages, counted from when the session was ready. */
struct Cut {
    enum Side {
        requests, /* only those messages reach the server */
        replies   /* only those reach the client; the server has sent all of its reply */
    } side;
    int message_count;
};

class Proxy
{
public:
    /* Serves one connection. */
    explicit Proxy(Cut cut);

    /* Waits until the connection has ended. */
    ~Proxy();

    Proxy(const Proxy &) = delete;
    Proxy &operator=(const Proxy &) = delete;

    /* The connection string for connecting through the proxy. */
    std::string conninfo() const;

private:
    void serve();

    const Cut cut_;
    int listener_;
    int port_;
    std::thread thread_;
};

} // namespace usage_ledger::live
