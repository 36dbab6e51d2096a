// Checks the model with its test vectors on the board, and says how long a row takes.
#include <@NAME@.h>
#include <@NAME@_vectors.h>

void setup() {
  Serial.begin(115200);
}

void loop() {
  int wrong = 0;
  unsigned long taken = 0;
  for (int vector = 0; vector < @UPPER@_VECTORS; vector++) {
    float out[@UPPER@_OUTPUTS];
    read_row(vector);
    const unsigned long start = micros();
    const int code = @NAME@_predict(row, out, &w);
    taken += micros() - start;
    for (int i = 0; i < @UPPER@_OUTPUTS; i++) {
      const float off = out[i] - @NAME@_expected[vector][i];
      if (code != @UPPER@_OK || !(off <= @NAME@_tolerance[vector] && off >= -@NAME@_tolerance[vector])) wrong++;
    }
  }
  Serial.print(wrong);
  Serial.print(" wrong outputs, microseconds a row: ");
  Serial.println(taken / @UPPER@_VECTORS);
  delay(5000);
}
