// The least that anything between the bus and MQTT clients must do: read each signal of a Venus service, and write one batch
// of PUBLISH packets to each client for what one read brought. It decodes nothing, keeps nothing, and the packets are always
// the same. See benches/compare.
//
//     floor SOCKET_OF_THE_BUS PORT CLIENTS [VALUES_OF_A_SIGNAL]
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CLIENTS_MAX = 1024, BYTES = 1 << 20 };

static const char PUBLISH[] = "\x30\x39\x00\x23N/compare/temperature/0/Group3/V157{\"value\": 123456.25}";

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static void all(int fd, const void *bytes, size_t count) {
    for (const char *at = bytes; count > 0;) {
        ssize_t done = write(fd, at, count);
        check(done > 0, "write");
        at += done;
        count -= done;
    }
}

// One packet of a client, which is short.
static void packet(int fd, uint8_t *out) {
    check(recv(fd, out, 2, MSG_WAITALL) == 2 && out[1] < 128, "a client");
    check(recv(fd, out + 2, out[1], MSG_WAITALL) == out[1], "a client");
}

static size_t text(uint8_t *out, size_t at, const char *value) {
    at = (at + 3) & ~(size_t)3;
    uint32_t length = strlen(value);
    memcpy(out + at, &length, 4);
    memcpy(out + at + 4, value, length + 1);
    return at + 4 + length + 1;
}

static size_t field(uint8_t *out, size_t at, uint8_t code, const char *value) {
    at = (at + 7) & ~(size_t)7;
    out[at++] = code;
    memcpy(out + at, code == 1 ? "\1o" : "\1s", 3);
    return text(out, at + 3, value);
}

// A call of the bus itself, with one text or none.
static void call(int fd, uint32_t serial, const char *member, const char *argument) {
    uint8_t out[1024] = {'l', 1, 0, 1};
    memcpy(out + 8, &serial, 4);
    size_t at = field(out, 16, 1, "/org/freedesktop/DBus");
    at = field(out, at, 2, "org.freedesktop.DBus");
    at = field(out, at, 3, member);
    at = field(out, at, 6, "org.freedesktop.DBus");
    if (argument) {
        at = (at + 7) & ~(size_t)7;
        memcpy(out + at, "\x08\1g\0\1s", 7);
        at += 7;
    }
    uint32_t fields = at - 16;
    memcpy(out + 12, &fields, 4);
    size_t body = (at + 7) & ~(size_t)7;
    size_t end = argument ? text(out, body, argument) : body;
    uint32_t length = end - body;
    memcpy(out + 4, &length, 4);
    all(fd, out, end);
}

static int bus(const char *path) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, path);
    char uid[32], said[128] = "", hex[64] = "";
    snprintf(uid, sizeof uid, "%u", getuid());
    for (char *at = uid; *at; at++) sprintf(hex + strlen(hex), "%02x", *at);
    snprintf(said, sizeof said, "%cAUTH EXTERNAL %s\r\n", 1, hex);
    said[0] = 0;
    all(fd, said, 1 + strlen(said + 1));
    check(read(fd, said, sizeof said) > 2 && memcmp(said, "OK", 2) == 0, "the bus");
    all(fd, "BEGIN\r\n", 7);
    call(fd, 1, "Hello", NULL);
    call(fd, 2, "AddMatch", "type='signal',interface='com.victronenergy.BusItem'");
    return fd;
}

int main(int count, char **words) {
    if (count < 4) return fprintf(stderr, "floor SOCKET_OF_THE_BUS PORT CLIENTS [VALUES_OF_A_SIGNAL]\n"), 2;
    int clients = atoi(words[3]), values = count > 4 ? atoi(words[4]) : 1, yes = 1;
    static int client[CLIENTS_MAX];
    static uint8_t in[BYTES], out[BYTES];
    int door = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2])), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    check(bind(door, (struct sockaddr *)&address, sizeof address) == 0 && listen(door, CLIENTS_MAX) == 0, "listen");
    for (int n = 0; n < clients; n++) {
        client[n] = accept(door, NULL, NULL);
        setsockopt(client[n], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        packet(client[n], in);
        all(client[n], "\x20\x02\0\0", 4);
        packet(client[n], in);
        uint8_t suback[] = {0x90, 3, in[2], in[3], 0};
        all(client[n], suback, sizeof suback);
    }
    int from = bus(words[1]);
    for (size_t have = 0;;) {
        ssize_t came = read(from, in + have, BYTES - have);
        check(came > 0, "the bus");
        have += came;
        size_t at = 0, batch = 0;
        while (have - at >= 16) {
            uint32_t body, fields;
            memcpy(&body, in + at + 4, 4);
            memcpy(&fields, in + at + 12, 4);
            size_t length = 16 + ((fields + 7) & ~(size_t)7) + body;
            if (have - at < length) break;
            int is_signal = in[at + 1] == 4;
            for (int n = 0; is_signal && n < values && batch + sizeof PUBLISH <= BYTES; n++) {
                memcpy(out + batch, PUBLISH, sizeof PUBLISH - 1);
                batch += sizeof PUBLISH - 1;
            }
            at += length;
        }
        memmove(in, in + at, have - at);
        have -= at;
        for (int n = 0; n < clients && batch > 0; n++) all(client[n], out, batch);
    }
}
