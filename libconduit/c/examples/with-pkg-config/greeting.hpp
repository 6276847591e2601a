#ifndef GREETING_HPP
#define GREETING_HPP

#include <conduit.hpp>

struct Greeting {
    char text[60];
    std::uint32_t number;
};
CONDUIT_TYPE(Greeting, "sample/Greeting");

#endif
