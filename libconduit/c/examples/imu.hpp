// What the two IMU examples agree on; those in C and Rust have the same type.
#ifndef IMU_HPP
#define IMU_HPP

#include <conduit.hpp>

struct Imu {
    double gyro[3];          // rad/s
    double acceleration[3];  // m/s^2
};
CONDUIT_TYPE(Imu, "example/Imu");

inline constexpr const char* imu_topic = "imu";

#endif
