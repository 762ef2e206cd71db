/*
 * proxy.hpp: a proxy on loopback before the tests' server, that cuts one connection
 * between two messages of the protocol.
 */
#pragma once

#include <string>
#include <thread>

namespace usage_ledger::live
{

/* Where to cut, counted in whole messages since the session was ready. */
struct Cut {
    enum Side {
        requests, /* so many messages reach the server, and no more */
        replies   /* so many reach the client; the server has sent the statement's last */
    } side;
    int message_count;
};

class Proxy
{
public:
    /* For one connection. */
    explicit Proxy(Cut cut);

    /* Waits for the end of the connection. */
    ~Proxy();

    Proxy(const Proxy &) = delete;
    Proxy &operator=(const Proxy &) = delete;

    /* How to connect through it. */
    std::string conninfo() const;

private:
    void serve();

    const Cut cut_;
    int listener_;
    int port_;
    std::thread thread_;
};

} // namespace usage_ledger::live
