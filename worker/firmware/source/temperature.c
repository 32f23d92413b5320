#include "temperature.h"

#include "hardware/adc.h"
#include "samples.h"

// The sensor is the converter's last input: 0.706 V at 27 degrees, 1.721 mV less for each degree more.
#define SENSOR_INPUT (NUM_ADC_CHANNELS - 1)
#define REFERENCE_UV 3300000
#define RESOLUTION 4096
#define UV_AT_27_DEGREES 706000
#define UV_PER_DEGREE 1721

void temperature_init(void) { adc_set_temp_sensor_enabled(true); }

int32_t temperature_mc(void) {
    static int32_t last;
    if (!samples_running()) {
        adc_select_input(SENSOR_INPUT);
        int32_t microvolts = (int32_t)((int64_t)adc_read() * REFERENCE_UV / RESOLUTION);
        last = 27000 - (microvolts - UV_AT_27_DEGREES) * 1000 / UV_PER_DEGREE;
    }
    return last;
}
