// The topic and type of the IMU examples; those in C and Rust have the same.
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
