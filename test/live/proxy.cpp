#include "proxy.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace usage_ledger::live
{

namespace
{

class Socket
{
public:
    explicit Socket(int descriptor) : descriptor_(descriptor)
    {
        if (descriptor < 0) {
            throw std::runtime_error(std::string("socket: ") + strerror(errno));
        }
    }
    ~Socket()
    {
        close(descriptor_);
    }
    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;

    int get() const
    {
        return descriptor_;
    }

    /* Appends the bytes received; returns false at the end of the stream. */
    bool receive(std::string *buffer) const
    {
        char bytes[8192];
        const ssize_t size = recv(descriptor_, bytes, sizeof(bytes), 0);
        if (size > 0) {
            buffer->append(bytes, static_cast<size_t>(size));
        }
        return size > 0;
    }

    /* Ignores errors: receive() notices when the peer has disconnected. */
    void send_all(const std::string &bytes) const
    {
        for (size_t sent = 0; sent < bytes.size();) {
            const ssize_t size =
                send(descriptor_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
            if (size < 0) {
                return;
            }
            sent += static_cast<size_t>(size);
        }
    }

private:
    const int descriptor_;
};

/* Connects to the server that the environment names, on its unix socket. */
int connect_to_server()
{
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path =
        std::string(getenv("PGHOST")) + "/.s.PGSQL." + std::string(getenv("PGPORT"));
    if (path.size() >= sizeof(address.sun_path)) {
        throw std::runtime_error("the socket's path is too long: " + path);
    }
    strcpy(address.sun_path, path.c_str());
    const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(descriptor, reinterpret_cast<sockaddr *>(&address), sizeof(address)) != 0) {
        throw std::runtime_error(path + ": " + strerror(errno));
    }
    return descriptor;
}

/* Removes one message from a buffer: type, length, body. Returns "" if it is incomplete. */
std::string take_message(std::string *buffer)
{
    if (buffer->size() < 5) {
        return "";
    }
    uint32_t length;
    memcpy(&length, buffer->data() + 1, sizeof(length));
    const size_t size = 1 + ntohl(length);
    if (buffer->size() < size) {
        return "";
    }
    const std::string message = buffer->substr(0, size);
    buffer->erase(0, size);
    return message;
}

constexpr char ready_for_query = 'Z';

} // namespace

Proxy::Proxy(Cut cut) : cut_(cut), listener_(socket(AF_INET, SOCK_STREAM, 0))
{
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (bind(listener_, reinterpret_cast<sockaddr *>(&address), size) != 0 ||
        listen(listener_, 1) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr *>(&address), &size) != 0) {
        throw std::runtime_error(std::string("listen: ") + strerror(errno));
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
}

Proxy::~Proxy()
{
    thread_.join();
    close(listener_);
}

std::string Proxy::conninfo() const
{
    return "host=127.0.0.1 port=" + std::to_string(port_) +
           " dbname=usage_ledger_live sslmode=disable gssencmode=disable";
}

void Proxy::serve()
{
    const Socket client(accept(listener_, nullptr, nullptr));
    const int yes = 1; /* without it each message waits for the acknowledgement of the last */
    (void)setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    const Socket server(connect_to_server());
    std::string requests, replies;
    int request_count = 0, reply_count = 0;
    bool is_ready = false, is_cut = false;
    for (;;) {
        pollfd ready[] = {{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}};
        if (poll(ready, 2, -1) < 0) {
            continue;
        }
        if (ready[0].revents != 0 && !client.receive(&requests)) {
            return;
        }
        if (ready[1].revents != 0 && !server.receive(&replies)) {
            return;
        }

        /*
         * The startup message has no type byte. No client message follows it until the
         * session is ready.
         */
        if (!is_ready) {
            server.send_all(requests);
            requests.clear();
        }
        for (std::string message; is_ready && !(message = take_message(&requests)).empty();) {
            if (cut_.side == Cut::requests && request_count++ == cut_.message_count) {
                return;
            }
            server.send_all(message);
        }
        for (std::string message; !(message = take_message(&replies)).empty();) {
            if (is_ready && cut_.side == Cut::replies && reply_count++ == cut_.message_count) {
                is_cut = true;
            }
            if (!is_cut) {
                client.send_all(message);
            } else if (message[0] == ready_for_query) {
                return;
            }
            is_ready = is_ready || message[0] == ready_for_query;
        }
    }
}

} // namespace usage_ledger::live
