/* The topic and type of the IMU examples; those in C++ and Rust have the same. */
#ifndef IMU_H
#define IMU_H

#include <conduit.h>

#define IMU_TOPIC "imu"

typedef struct {
    double gyro[3];         /* rad/s */
    double acceleration[3]; /* m/s^2 */
} Imu;

static const conduit_type imu_type = {"example/Imu", CONDUIT_VALUE, _Alignof(Imu), sizeof(Imu)};

#endif
